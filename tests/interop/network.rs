//! Networks of a test's own, which nothing else on this machine takes part in: hosts around a switch.
//!
//! Each host is a network namespace, which lasts as long as a process of its own. Making one is only allowed to root.

use std::net::Ipv4Addr;
use std::process::Command;
use std::rc::Rc;

use crate::peers::LIMIT;
use crate::process::Process;

/// Each host's network card.
const CARD: &str = "card";

/// A host in a network.
pub(crate) struct Host {
    namespace: Namespace,
    /// Its address in the network.
    pub(crate) ip: Ipv4Addr,
    /// What connects it to the others.
    _switch: Rc<Namespace>,
}

/// A network namespace, and the process that keeps it.
struct Namespace(Process);

/// So many hosts around a switch.
pub(crate) fn network<const HOSTS: usize>() -> [Host; HOSTS] {
    let switch = Rc::new(Namespace::new());
    // What is for everybody in a multicast group goes to all: nobody asks who that is.
    switch.ip("link add name switch type bridge mcast_snooping 0");
    switch.ip("link set switch up");
    std::array::from_fn(|number| Host::new(&switch, number as u8 + 1))
}

impl Host {
    fn new(switch: &Rc<Namespace>, number: u8) -> Self {
        let (namespace, ip) = (Namespace::new(), Ipv4Addr::new(10, 77, 0, number));
        let there = namespace.0.id();
        switch.ip(&format!("link add name port{number} type veth peer name {CARD} netns {there}"));
        switch.ip(&format!("link set port{number} master switch up"));
        namespace.ip(&format!("address add {ip}/24 dev {CARD}"));
        namespace.ip(&format!("address add fd77::{number}/64 dev {CARD} nodad"));
        namespace.ip(&format!("link set {CARD} up"));
        // Who sends to a group without naming a card takes the one that leads to everywhere.
        namespace.ip(&format!("route add default dev {CARD}"));
        Self { namespace, ip, _switch: switch.clone() }
    }

    /// A free port at its address.
    pub(crate) fn listen(&self) -> String {
        format!("{}:0", self.ip)
    }

    /// The same command, to be run on this host.
    pub(crate) fn runs(&self, command: &Command) -> Command {
        self.namespace.runs(command)
    }
}

impl Namespace {
    fn new() -> Self {
        let mut shell = Command::new("unshare");
        shell.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec cat"]);
        let mut process = Process::start(&mut shell, LIMIT);
        let mend = "a network namespace: these tests must run as root, and need `ip` (Debian: apt-get install iproute2)";
        process.wait_for(mend, |line| (line.text() == "up").then_some(()));
        Self(process)
    }

    /// Runs the program `ip` there.
    fn ip(&self, arguments: &str) {
        let mut command = self.runs(Command::new("ip").args(arguments.split(' ')));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn runs(&self, command: &Command) -> Command {
        let mut there = Command::new("nsenter");
        there.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg("--");
        there.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => there.env(name, value),
                None => there.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            there.current_dir(folder);
        }
        there
    }
}
