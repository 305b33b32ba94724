//! A gateway on loopback that speaks PCP, or NAT-PMP alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use tokio::net::UdpSocket;
use tokio::task::spawn_local;

/// How it behaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mood {
    /// It speaks PCP.
    #[default]
    Pcp,
    /// It speaks NAT-PMP, and says so to who tries PCP.
    NatPmp,
    /// It speaks NAT-PMP, and says nothing to who tries PCP.
    OldNatPmp,
    /// It does not let anybody.
    Refuses,
    /// It gives something, but not what it was asked for.
    WrongPort,
    /// It gives a port for no time.
    NoTime,
    Garbage,
    Silent,
}

/// The gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) mood: Mood,
    /// For how long at most it gives a port, in seconds.
    pub(super) longest: u32,
    /// For the number of a protocol (6 TCP, 17 UDP) and a port inside, the one outside.
    pub(super) mapped: BTreeMap<(u8, u16), u16>,
    /// How often it was asked to map a port.
    pub(super) asked: usize,
}

/// What it says that its address outside is.
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(81, 2, 3, 4);

impl Gateway {
    /// Starts it at an address of its own.
    pub(super) async fn start(ip: Ipv4Addr, mood: Mood) -> Rc<RefCell<Self>> {
        let gateway = Rc::new(RefCell::new(Self { mood, longest: 7_200, mapped: BTreeMap::new(), asked: 0 }));
        let socket = UdpSocket::bind((ip, crab_nat::GATEWAY_PORT)).await.unwrap();
        let running = gateway.clone();
        spawn_local(async move {
            let mut buffer = [0; 2_048];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                let answer = running.borrow_mut().answer(&buffer[..length]);
                if let Some(answer) = answer {
                    socket.send_to(&answer, from).await.unwrap();
                }
            }
        });
        gateway
    }

    fn answer(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        match (self.mood, request[0]) {
            (Mood::Silent, _) | (Mood::OldNatPmp, 2) => None,
            (Mood::Garbage, _) => Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            (Mood::NatPmp, 2) => Some(vec![0, 0x80 | request[1], 0, 1, 0, 0, 0, 9]),
            (_, 2) => Some(self.pcp(request)),
            (_, 0) => Some(self.nat_pmp(request)),
            other => panic!("asked {other:?}"),
        }
    }

    /// A request to map a port: RFC 6887, 11.1.
    fn pcp(&mut self, request: &[u8]) -> Vec<u8> {
        assert_eq!((request.len(), request[1]), (60, 1));
        let client = Ipv4Addr::from(<[u8; 4]>::try_from(&request[20..24]).unwrap());
        assert!(client.is_loopback(), "{client} is not where it came from");
        let lifetime = u32::from_be_bytes(request[4..8].try_into().unwrap());
        let protocol = request[36];
        let inside = u16::from_be_bytes(request[40..42].try_into().unwrap());
        let (outside, lifetime) = self.map(protocol, inside, lifetime);
        let result = if self.mood == Mood::Refuses { 2 } else { 0 };
        let inside = if self.mood == Mood::WrongPort { inside + 1 } else { inside };
        let mut answer = vec![2, 0x81, 0, result];
        answer.extend(lifetime.to_be_bytes());
        answer.extend([0; 16]);
        answer.extend(&request[24..40]);
        answer.extend([inside.to_be_bytes(), outside.to_be_bytes()].concat());
        answer.extend(OUTSIDE.to_ipv6_mapped().octets());
        answer
    }

    /// The questions of RFC 6886, 3.2 and 3.3.
    fn nat_pmp(&mut self, request: &[u8]) -> Vec<u8> {
        let mut answer = vec![0, 0x80 | request[1], 0, 0, 0, 0, 0, 9];
        if request == [0, 0] {
            answer.extend(OUTSIDE.octets());
            return answer;
        }
        assert_eq!(request.len(), 12);
        let protocol = if request[1] == 2 { 6 } else { 17 };
        let inside = u16::from_be_bytes(request[4..6].try_into().unwrap());
        let lifetime = u32::from_be_bytes(request[8..12].try_into().unwrap());
        let (outside, lifetime) = self.map(protocol, inside, lifetime);
        answer.extend([inside.to_be_bytes(), outside.to_be_bytes()].concat());
        answer.extend(lifetime.to_be_bytes());
        answer
    }

    /// The port outside, and for how long.
    fn map(&mut self, protocol: u8, inside: u16, lifetime: u32) -> (u16, u32) {
        if lifetime == 0 {
            self.mapped.remove(&(protocol, inside));
            return (0, 0);
        }
        self.asked += 1;
        if self.mood == Mood::Refuses {
            return (0, 30);
        }
        let outside = *self.mapped.entry((protocol, inside)).or_insert(inside + 1_000);
        (outside, if self.mood == Mood::NoTime { 0 } else { lifetime.min(self.longest) })
    }
}
