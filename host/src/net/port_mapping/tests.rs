//! Ports are mapped by routers that are played here, on loopback: the real protocols, with a real network in between.

mod igd;
mod nat_pmp;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};

use self::igd::{Answer, Igd};
use self::nat_pmp::{Gateway, Mood, OUTSIDE};
use super::*;

/// What a task told, in words: `tcp 7881 81.2.3.4`, or `tcp: why not`.
type Told = Rc<RefCell<Vec<String>>>;

const LOCAL: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 6_881);

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async { timeout(Duration::from_secs(60), test).await }).unwrap();
    // As a session ends: without the threads that still hear nothing from a router.
    runtime.shutdown_background();
}

/// Nobody answers, and it is found out soon.
fn surroundings() -> Surroundings {
    Surroundings {
        ssdp: "127.0.0.1:9".parse().unwrap(),
        trusted: &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
        search: Duration::from_millis(300),
        gateway: || Err(NoGateway::NoRoute),
        retry: (Duration::from_millis(50), Duration::from_millis(100)),
        rest: Duration::from_millis(50),
    }
}

fn mapping(transport: PortmapTransport, lease: u64) -> PortMapping {
    PortMapping { transport, local: LOCAL, lease: Duration::from_secs(lease) }
}

/// A task that sees to a port.
struct Keeper {
    told: Told,
    end: Rc<Notify>,
    task: tokio::task::JoinHandle<()>,
}

impl Keeper {
    fn start<R: Router + 'static>(router: R, surroundings: Surroundings) -> Self {
        let (told, end) = (Told::default(), Rc::new(Notify::new()));
        let (heard, ends) = (told.clone(), end.clone());
        let task = spawn_local(async move {
            let tell = |protocol: PortmapProtocol, result: Result<MappedPort, String>| {
                let name = protocol.name();
                heard.borrow_mut().push(match result {
                    Ok(MappedPort { port, address: Some(address) }) => format!("{name} {port} {address}"),
                    Ok(MappedPort { port, address: None }) => format!("{name} {port}"),
                    Err(error) => format!("{name}: {error}"),
                });
            };
            keep(router, &surroundings, &ends, tell).await;
        });
        Self { told, end, task }
    }

    /// A router is there: it is found, however busy this machine is.
    fn upnp(ssdp: SocketAddr, lease: u64) -> Self {
        Self::searching(ssdp, lease, Duration::from_secs(30))
    }

    /// Perhaps there is none.
    fn hasty_upnp(ssdp: SocketAddr) -> Self {
        Self::searching(ssdp, 3_600, surroundings().search)
    }

    fn searching(ssdp: SocketAddr, lease: u64, search: Duration) -> Self {
        let surroundings = Surroundings { ssdp, search, ..surroundings() };
        Self::start(upnp::Upnp::new(mapping(PortmapTransport::Upnp, lease), &surroundings), surroundings)
    }

    fn nat_pmp(gateway: fn() -> Result<Ipv4Addr, NoGateway>, lease: u64) -> Self {
        let surroundings = Surroundings { gateway, ..surroundings() };
        Self::start(nat_pmp(lease, &surroundings), surroundings)
    }

    /// Waits until so many things were told; what.
    async fn hear(&self, count: usize) -> Vec<String> {
        while self.told.borrow().len() < count {
            sleep(Duration::from_millis(5)).await;
        }
        self.told.borrow()[..count].to_vec()
    }

    async fn end(self) {
        self.end.notify_one();
        self.task.await.unwrap();
    }
}

fn nat_pmp(lease: u64, surroundings: &Surroundings) -> super::nat_pmp::NatPmp {
    super::nat_pmp::NatPmp::new(mapping(PortmapTransport::NatPmp, lease), surroundings)
}

async fn until(mut so: impl FnMut() -> bool) {
    while !so() {
        sleep(Duration::from_millis(5)).await;
    }
}

fn igd(answers: &[Answer]) -> Rc<RefCell<Igd>> {
    let answers: VecDeque<Answer> = answers.iter().cloned().collect();
    Rc::new(RefCell::new(Igd { answers, outside: OUTSIDE.to_string(), ..Igd::default() }))
}

#[test]
fn upnp_maps_both_protocols_keeps_them_mapped_and_takes_them_back() {
    run(async {
        let igd = igd(&[]);
        // Half of a second is when they are asked for again.
        let keeper = Keeper::upnp(Igd::start(&igd).await, 1);
        assert_eq!(keeper.hear(2).await, ["tcp 6881 81.2.3.4", "udp 6881 81.2.3.4"]);
        let inside = (SocketAddr::V4(LOCAL), 1);
        let both = [(("TCP".to_owned(), 6_881), inside), (("UDP".to_owned(), 6_881), inside)];
        assert_eq!(igd.borrow().mapped, both.into());
        igd.borrow_mut().mapped.clear();
        until(|| igd.borrow().mapped.len() == 2).await;
        keeper.end().await;
        assert_eq!(igd.borrow().mapped, [].into());
    });
}

#[test]
fn upnp_takes_another_port_if_somebody_else_has_ours_and_keeps_to_it() {
    run(async {
        let igd = igd(&[Answer::Error(718), Answer::Error(718)]);
        let keeper = Keeper::upnp(Igd::start(&igd).await, 1);
        let told = keeper.hear(4).await;
        let port: u16 = told[0].split(' ').nth(1).unwrap().parse().unwrap();
        assert!((40_000..50_000).contains(&port), "{told:?}");
        assert_eq!(told[1], "udp 6881 81.2.3.4");
        assert_eq!(told[..2], told[2..], "when it is asked again");
        assert!(igd.borrow().mapped.contains_key(&("TCP".to_owned(), port)));
        keeper.end().await;
        assert_eq!(igd.borrow().mapped, [].into());
    });
}

#[test]
fn upnp_gives_up_for_now_if_every_port_is_taken() {
    run(async {
        let igd = igd(&vec![Answer::Error(718); 10]);
        let keeper = Keeper::upnp(Igd::start(&igd).await, 3_600);
        let told = keeper.hear(4).await;
        assert!(told[0].contains("assigned to another client"), "{told:?}");
        assert_eq!(told[2..], ["tcp 6881 81.2.3.4", "udp 6881 81.2.3.4"]);
        assert_eq!(igd.borrow().asked, 12);
        keeper.end().await;
    });
}

#[test]
fn upnp_maps_a_port_for_ever_where_there_is_nothing_else() {
    run(async {
        let igd = igd(&[Answer::Error(725)]);
        let keeper = Keeper::upnp(Igd::start(&igd).await, 3_600);
        keeper.hear(2).await;
        assert!(igd.borrow().mapped.values().all(|(_, lease)| *lease == 0));
        assert_eq!(igd.borrow().asked, 3);
        keeper.end().await;
        assert_eq!(igd.borrow().mapped, [].into());
    });
}

#[test]
fn a_upnp_router_that_refuses_or_talks_nonsense_is_asked_again_later() {
    run(async {
        let answers = [
            Answer::Error(606),
            Answer::Error(501),
            Answer::Text("<html>404</html>".to_owned()),
            Answer::Text(String::new()),
        ];
        let igd = igd(&answers);
        let keeper = Keeper::upnp(Igd::start(&igd).await, 3_600);
        let told = keeper.hear(6).await;
        for (error, protocol) in told[..4].iter().zip(["tcp: ", "udp: ", "tcp: ", "udp: "]) {
            assert!(error.starts_with(protocol) && error.len() > 10, "{error}");
        }
        assert_eq!(told[4..], ["tcp 6881 81.2.3.4", "udp 6881 81.2.3.4"]);
        keeper.end().await;
    });
}

#[test]
fn an_address_that_is_none_is_not_told() {
    run(async {
        let igd = igd(&[]);
        igd.borrow_mut().outside = "somewhere".to_owned();
        let keeper = Keeper::upnp(Igd::start(&igd).await, 3_600);
        assert_eq!(keeper.hear(2).await, ["tcp 6881", "udp 6881"]);
        keeper.end().await;
    });
}

#[test]
fn no_upnp_router_or_one_that_describes_something_else_is_none() {
    run(async {
        let igd = igd(&[]);
        igd.borrow_mut().description = Some("<root><device></device>".to_owned());
        for ssdp in [surroundings().ssdp, Igd::start(&igd).await] {
            let keeper = Keeper::hasty_upnp(ssdp);
            let told = keeper.hear(4).await;
            assert_eq!(told[0].replacen("tcp", "udp", 1), told[1], "one answer for both: nobody is there");
            keeper.end().await;
        }
        // Once it is one, it is found.
        let keeper = Keeper::hasty_upnp(Igd::start(&igd).await);
        keeper.hear(2).await;
        igd.borrow_mut().description = None;
        until(|| keeper.told.borrow().last().is_some_and(|told| told == "udp 6881 81.2.3.4")).await;
        keeper.end().await;
    });
}

#[test]
fn the_end_does_not_wait_for_a_upnp_router_that_is_silent() {
    run(async {
        let igd = igd(&[Answer::Silence]);
        let keeper = Keeper::upnp(Igd::start(&igd).await, 3_600);
        until(|| igd.borrow().asked == 1).await;
        timeout(2 * GOODBYE, keeper.end()).await.unwrap();
        let keeper = Keeper::upnp("127.0.0.1:9".parse().unwrap(), 3_600);
        timeout(GOODBYE, keeper.end()).await.unwrap();
    });
}

#[test]
fn pcp_maps_both_protocols_keeps_them_mapped_and_takes_them_back() {
    run(async {
        const HERE: Ipv4Addr = Ipv4Addr::new(127, 53, 51, 1);
        let gateway = Gateway::start(HERE, Mood::Pcp).await;
        gateway.borrow_mut().longest = 1;
        let keeper = Keeper::nat_pmp(|| Ok(HERE), 3_600);
        assert_eq!(keeper.hear(2).await, ["tcp 7881 81.2.3.4", "udp 7881 81.2.3.4"]);
        gateway.borrow_mut().mapped.clear();
        until(|| gateway.borrow().mapped.len() == 2).await;
        keeper.end().await;
        assert_eq!(gateway.borrow().mapped, [].into());
    });
}

#[test]
fn a_gateway_that_knows_only_nat_pmp_is_asked_by_that() {
    for (here, mood) in [(HERE[0], Mood::NatPmp), (HERE[1], Mood::OldNatPmp)] {
        run(async {
            let gateway = Gateway::start(here(), mood).await;
            let keeper = match mood {
                Mood::NatPmp => Keeper::nat_pmp(|| Ok(HERE[0]()), 3_600),
                _ => Keeper::nat_pmp(|| Ok(HERE[1]()), 3_600),
            };
            assert_eq!(keeper.hear(2).await, ["tcp 7881 81.2.3.4", "udp 7881 81.2.3.4"]);
            assert_eq!(gateway.borrow().mapped.len(), 2);
            keeper.end().await;
            assert_eq!(gateway.borrow().mapped, [].into());
        });
    }
}

/// Where gateways are in one test or another.
const HERE: [fn() -> Ipv4Addr; 2] = [|| Ipv4Addr::new(127, 53, 51, 2), || Ipv4Addr::new(127, 53, 51, 3)];

#[test]
fn a_gateway_that_refuses_or_talks_nonsense_is_asked_again_later() {
    run(async {
        const HERE: Ipv4Addr = Ipv4Addr::new(127, 53, 51, 4);
        let gateway = Gateway::start(HERE, Mood::Refuses).await;
        let keeper = Keeper::nat_pmp(|| Ok(HERE), 3_600);
        let mut heard = 0;
        for mood in [Mood::Refuses, Mood::WrongPort, Mood::NoTime, Mood::Garbage] {
            gateway.borrow_mut().mood = mood;
            heard = keeper.told.borrow().len() + 4;
            let told = keeper.hear(heard).await;
            let told: Vec<&String> = told[heard - 2..].iter().collect();
            assert!(told.iter().all(|told| told.contains(": ")), "{mood:?}: {told:?}");
        }
        gateway.borrow_mut().mood = Mood::Pcp;
        until(|| keeper.told.borrow().last().is_some_and(|told| told == "udp 7881 81.2.3.4")).await;
        assert!(keeper.told.borrow().len() > heard);
        keeper.end().await;
    });
}

#[test]
fn without_a_gateway_or_with_a_silent_one_there_is_an_error_and_no_long_goodbye() {
    run(async {
        const HERE: Ipv4Addr = Ipv4Addr::new(127, 53, 51, 5);
        let keeper = Keeper::nat_pmp(|| Err(NoGateway::Unknown), 3_600);
        let unknown = NoGateway::Unknown;
        assert_eq!(keeper.hear(2).await, [format!("tcp: {unknown}"), format!("udp: {unknown}")]);
        keeper.end().await;
        // Nobody at all.
        let keeper = Keeper::nat_pmp(|| Ok(HERE), 3_600);
        assert!(keeper.hear(2).await[0].starts_with("tcp: "));
        keeper.end().await;
        // Somebody who says nothing.
        let _gateway = Gateway::start(HERE, Mood::Silent).await;
        let keeper = Keeper::nat_pmp(|| Ok(HERE), 3_600);
        assert!(keeper.hear(2).await[1].starts_with("udp: "));
        timeout(GOODBYE, keeper.end()).await.unwrap();
    });
}

#[test]
fn a_port_that_is_wanted_again_before_it_was_taken_back_gets_another_task() {
    let (one, other) = (mapping(PortmapTransport::Upnp, 60), mapping(PortmapTransport::NatPmp, 60));
    let mut ports = PortMappings::default();
    let begun = |begun: Vec<(PortMapping, Rc<Notify>)>| begun.into_iter().map(|(m, _)| m).collect::<Vec<_>>();
    assert_eq!(begun(ports.want(vec![one, other])), [one, other]);
    assert_eq!(begun(ports.want(vec![other])), []);
    assert_eq!(begun(ports.want(vec![one, other])), []);
    assert!(ports.over(&one));
    assert_eq!(begun(ports.want(vec![one, other])), [one]);
    assert_eq!(begun(ports.want(vec![])), []);
    assert!(!ports.over(&one) && !ports.over(&other));
}
