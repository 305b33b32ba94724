//! Pilotfish downloads from web servers alone: Python's plain one, which sends whole files and then hangs up, one that knows
//! ranges, and nginx.

use std::fs;
use std::path::Path;
use std::process::Command;

use pilotfish_tests::{program, venv};

use crate::data::{Data, MIB, PIECE};
use crate::peers::{download, start};
use crate::process::{Line, Process};

/// A web server on loopback.
struct Server {
    _process: Process,
    url: String,
}

impl Server {
    /// `python -m http.server`.
    fn plain(folder: &Path) -> Self {
        let mut command = Command::new(venv::python());
        command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(folder);
        Self::started(&mut command, "http")
    }

    /// A server that knows ranges.
    fn ranges(folder: &Path) -> Self {
        Self::started(script("ranges.py").arg(folder), "http")
    }

    /// The same by HTTPS, with a certificate that nobody knows.
    fn secure(folder: &Path, certificate: &Path) -> Self {
        let made = script("certificate.py").output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        fs::write(certificate, made.stdout).unwrap();
        Self::started(script("ranges.py").arg(folder).arg(certificate), "https")
    }

    fn started(command: &mut Command, scheme: &str) -> Self {
        let mut process = start(command.env("PYTHONUTF8", "1"), 0);
        let port = process.wait_for("its port", |line| {
            let mut words = line.text().split(' ').skip_while(|word| *word != "port").skip(1);
            words.next()?.parse::<u16>().ok()
        });
        Self { _process: process, url: format!("{scheme}://127.0.0.1:{port}/") }
    }

    /// Debian's nginx.
    #[cfg(feature = "debian")]
    fn nginx(data: &Data) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let folder = data.path("nginx");
        fs::create_dir(&folder).unwrap();
        let (here, root) = (folder.display(), data.complete());
        let configuration = format!(
            "daemon off; pid {here}/pid; error_log stderr notice; worker_processes 1; user root;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path {here}/1; proxy_temp_path {here}/2;\n\
             fastcgi_temp_path {here}/3; uwsgi_temp_path {here}/4; scgi_temp_path {here}/5;\n\
             server {{ listen 127.0.0.1:{port}; root \"{}\"; }} }}\n",
            root.display(),
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new("/usr/sbin/nginx");
        command.arg("-c").arg(&file).args(["-p"]).arg(&folder);
        let mut process = start(&mut command, 0);
        process.wait_for("its start", |line| line.text().contains("start worker process ").then_some(()));
        Self { _process: process, url: format!("http://127.0.0.1:{port}/") }
    }
}

fn script(name: &str) -> Command {
    let mut python = Command::new(venv::python());
    python.arg(format!("{}/interop/{name}", env!("CARGO_MANIFEST_DIR")));
    python
}

/// A download from web servers, and nothing else.
fn download_from(data: &Data, urls: &[&str]) -> Command {
    let mut command = download(data, &[]);
    urls.iter().for_each(|url| {
        command.args(["--web-seed", url]);
    });
    command
}

/// Downloads everything from web servers.
#[track_caller]
fn downloads(data: &Data, urls: &[&str]) -> Process {
    let mut pilotfish = start(&mut download_from(data, urls), 0);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
    pilotfish
}

/// A folder with names that have to be encoded.
fn folder() -> Data {
    let mut data = Data::new();
    let files = [
        ("first.bin", 3 * MIB + 1),
        ("empty", 0),
        ("a/b c/deep?.bin", 2 * MIB + 7),
        ("a/b c/100%", 1),
        ("日本語 #1.dat", MIB + 300),
    ];
    data.add("folder & more", &files);
    data
}

#[test]
fn a_file_comes_from_pythons_plain_server() {
    let data = Data::single(24 * MIB);
    downloads(&data, &[&Server::plain(&data.complete()).url]);
}

#[test]
fn a_folder_comes_from_pythons_plain_server() {
    let data = folder();
    downloads(&data, &[&Server::plain(&data.complete()).url]);
}

#[test]
fn a_file_comes_from_a_server_that_knows_ranges() {
    let data = Data::single(24 * MIB);
    let server = Server::ranges(&data.complete());
    downloads(&data, &[&format!("{}payload.bin", server.url)]);
}

#[test]
fn a_folder_comes_from_a_server_that_the_torrent_itself_names() {
    let mut data = folder();
    let server = Server::ranges(&data.complete());
    let torrent = data.path("with-web-seed.torrent");
    let mut create = Command::new(program::pilotfish());
    create.arg("create").arg(data.complete().join("folder & more")).arg("--output").arg(&torrent);
    create.args(["--piece-length", &PIECE.to_string(), "--web-seed", &server.url]);
    assert!(create.status().unwrap().success());
    data.torrents = vec![torrent];
    downloads(&data, &[]);
}

#[test]
fn a_server_with_bad_data_is_banned_and_the_data_is_right() {
    let data = Data::single(8 * MIB);
    let bad = data.copy_in_part("bad", |piece| piece % 5 != 1);
    let (bad, good) = (Server::ranges(&bad), Server::ranges(&data.complete()));
    let pilotfish = downloads(&data, &[&bad.url, &good.url]);
    let banned = |line: &Line| line.alert("url_seed").filter(|fields| fields["error"] == "peer banned");
    let urls: Vec<String> = pilotfish
        .printed
        .iter()
        .filter_map(banned)
        .map(|fields| fields["url"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(urls, [bad.url]);
}

#[test]
fn https_takes_a_certificate_that_is_trusted() {
    let data = Data::single(8 * MIB);
    let certificate = data.path("certificate.pem");
    let server = Server::secure(&data.complete(), &certificate);
    let mut stranger = start(&mut download_from(&data, &[&server.url]), 0);
    let error = stranger.wait_for("a refusal", |line| {
        line.alert("url_seed").and_then(|fields| Some(fields["error"].as_str()?.to_owned()))
    });
    assert!(error.contains("certificate"), "{error}");
    stranger.kill();
    let mut pilotfish = start(download_from(&data, &[&server.url]).env("SSL_CERT_FILE", &certificate), 0);
    pilotfish.wait_for_code(0);
    data.assert_arrived();
}

#[test]
fn https_takes_any_certificate_if_the_user_has_it_so() {
    let data = folder();
    let server = Server::secure(&data.complete(), &data.path("certificate.pem"));
    let mut command = download_from(&data, &[&server.url]);
    start(command.args(["--set", "validate_https_trackers=0"]), 0).wait_for_code(0);
    data.assert_arrived();
}

#[test]
#[cfg(feature = "debian")]
fn nginx_serves_a_file_and_a_folder() {
    let nginx = Path::new("/usr/sbin/nginx");
    assert!(nginx.is_file(), "nginx is missing (Debian: apt-get install nginx-light)");
    for data in [Data::single(24 * MIB), folder()] {
        downloads(&data, &[&Server::nginx(&data).url]);
    }
}
