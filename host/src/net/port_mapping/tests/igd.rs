//! A UPnP router on loopback: SSDP, a description, and SOAP.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::spawn_local;

/// What it has mapped: for a protocol and a port outside, the address inside and for how many seconds.
type Mapped = BTreeMap<(String, u16), (SocketAddr, u32)>;

/// The router.
#[derive(Debug, Default)]
pub(super) struct Igd {
    /// What it answers to the next requests to map a port, instead of doing it: the number of an error, or any text.
    pub(super) answers: VecDeque<Answer>,
    pub(super) mapped: Mapped,
    /// How often it was asked to map a port.
    pub(super) asked: usize,
    /// What it says that its address outside is.
    pub(super) outside: String,
    /// What it sends instead of its description.
    pub(super) description: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    Error(u32),
    Text(String),
    Silence,
}

const DESCRIPTION: &str = r#"<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device>
<deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><deviceList><device>
<deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType>
<serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<SCPDURL>/actions.xml</SCPDURL><controlURL>/control</controlURL><eventSubURL>/events</eventSubURL>
</service></serviceList></device></deviceList></device></deviceList></device></root>"#;

/// What it can be asked, and with which arguments.
const ACTIONS: [(&str, &[&str]); 3] = [
    (
        "AddPortMapping",
        &[
            "NewRemoteHost",
            "NewExternalPort",
            "NewProtocol",
            "NewInternalPort",
            "NewInternalClient",
            "NewEnabled",
            "NewPortMappingDescription",
            "NewLeaseDuration",
        ],
    ),
    ("DeletePortMapping", &["NewRemoteHost", "NewExternalPort", "NewProtocol"]),
    ("GetExternalIPAddress", &[]),
];

impl Igd {
    /// Starts it; where it answers searches.
    pub(super) async fn start(igd: &Rc<RefCell<Self>>) -> SocketAddr {
        let web = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let location = format!("http://{}/description.xml", web.local_addr().unwrap());
        let ssdp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = ssdp.local_addr().unwrap();
        spawn_local(async move {
            let mut buffer = [0; 2_048];
            loop {
                let (length, from) = ssdp.recv_from(&mut buffer).await.unwrap();
                assert!(buffer[..length].starts_with(b"M-SEARCH * HTTP/1.1\r\n"));
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
                     USN: uuid:1\r\nEXT:\r\nSERVER: test\r\nLOCATION: {location}\r\n\r\n"
                );
                ssdp.send_to(answer.as_bytes(), from).await.unwrap();
            }
        });
        let igd = igd.clone();
        spawn_local(async move {
            loop {
                let (stream, _) = web.accept().await.unwrap();
                spawn_local(serve(igd.clone(), stream));
            }
        });
        address
    }

    /// What it answers to a request; `None` if nothing.
    fn answer(&mut self, head: &str, body: &str) -> Option<String> {
        match head.split(' ').nth(1)? {
            "/description.xml" => Some(self.description.clone().unwrap_or_else(|| DESCRIPTION.to_owned())),
            "/actions.xml" => Some(actions()),
            "/control" if body.contains("GetExternalIPAddress") => Some(response(
                "GetExternalIPAddress",
                &format!("<NewExternalIPAddress>{}</NewExternalIPAddress>", self.outside),
            )),
            "/control" if body.contains("AddPortMapping") => self.add(body),
            "/control" if body.contains("DeletePortMapping") => {
                let key = (value(body, "NewProtocol"), value(body, "NewExternalPort").parse().unwrap());
                match self.mapped.remove(&key) {
                    Some(_) => Some(response("DeletePortMapping", "")),
                    None => Some(fault(714)),
                }
            }
            other => panic!("asked for {other}"),
        }
    }

    fn add(&mut self, body: &str) -> Option<String> {
        self.asked += 1;
        match self.answers.pop_front() {
            Some(Answer::Error(number)) => return Some(fault(number)),
            Some(Answer::Text(text)) => return Some(text),
            Some(Answer::Silence) => return None,
            None => {}
        }
        let key = (value(body, "NewProtocol"), value(body, "NewExternalPort").parse().unwrap());
        let inside = format!("{}:{}", value(body, "NewInternalClient"), value(body, "NewInternalPort"));
        let lease = value(body, "NewLeaseDuration").parse().unwrap();
        self.mapped.insert(key, (inside.parse().unwrap(), lease));
        Some(response("AddPortMapping", ""))
    }
}

/// The text of an element.
fn value(body: &str, name: &str) -> String {
    let (_, rest) = body.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("no {name} in {body}"));
    rest.split('<').next().unwrap().to_owned()
}

fn actions() -> String {
    let argument = |name: &&str| format!("<argument><name>{name}</name><direction>in</direction></argument>");
    let action = |(name, arguments): (&str, &[&str])| {
        let arguments: String = arguments.iter().map(argument).collect();
        format!("<action><name>{name}</name><argumentList>{arguments}</argumentList></action>")
    };
    let actions: String = ACTIONS.into_iter().map(action).collect();
    format!("<?xml version=\"1.0\"?><scpd><actionList>{actions}</actionList></scpd>")
}

fn response(action: &str, values: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body>\
         <u:{action}Response xmlns:u=\"urn:schemas-upnp-org:service:WANIPConnection:1\">{values}\
         </u:{action}Response></s:Body></s:Envelope>"
    )
}

fn fault(number: u32) -> String {
    format!(
        "<?xml version=\"1.0\"?><s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\"><s:Body><s:Fault>\
         <faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail>\
         <UPnPError xmlns=\"urn:schemas-upnp-org:control-1-0\"><errorCode>{number}</errorCode>\
         <errorDescription>so it is</errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>"
    )
}

/// Answers one request.
async fn serve(igd: Rc<RefCell<Igd>>, mut stream: TcpStream) {
    let mut request = Vec::new();
    let (head, body) = loop {
        if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
            return;
        }
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| {
            let (name, length) = line.split_once(": ")?;
            name.eq_ignore_ascii_case("content-length").then(|| length.parse::<usize>().unwrap())
        });
        if body.len() >= length.unwrap_or(0) {
            break (head.to_owned(), body.to_owned());
        }
    };
    let answer = igd.borrow_mut().answer(&head, &body);
    let Some(answer) = answer else { return std::future::pending().await };
    // Whoever wants no more has gone.
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", answer.len());
    let _ = stream.write_all(&[head.as_bytes(), answer.as_bytes()].concat()).await;
}
