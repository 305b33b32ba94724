//! Torrents are added: by the embedding program, by a plugin, because a stranger asked for one.

use std::path::PathBuf;

use pilotfish_plugin::rt::abi_stable::std_types::ROption;
use pilotfish_plugin::{ConnectionType, PeerSource, SessionHooks, TorrentHandle, TorrentState, Userdata};

use super::Engine;
use super::output::Output;
use super::state::{SessionPhase, State};
use super::step::Step;
use super::torrents::pieces_per_file;
use crate::alert::AlertKind;
use crate::command::{AddTorrent, AddTorrentError, Answer, Ticket};
use crate::job::StorageId;
use crate::metainfo::{Description, Magnet, Metainfo};
use crate::peer::{Budget, Meter, mse};
use crate::torrent::{BanReason, Candidates, Picker, Priority, Record, Torrent, Trackers, WebSeeds};
use crate::wire::EntryTree;

impl Engine {
    /// Adds a torrent: its plugins first, then the alert, then its files are looked at.
    pub(super) fn add_torrent(
        &mut self,
        ticket: Option<Ticket>,
        asked: Result<Box<AddTorrent>, AddTorrentError>,
    ) {
        let asked = asked.and_then(|torrent| match self.state.phase {
            SessionPhase::Running if torrent.description.info_hashes().v1().is_none() => {
                Err(AddTorrentError::V2Only)
            }
            SessionPhase::Running => Ok(torrent),
            _ => Err(AddTorrentError::ShuttingDown),
        });
        let result = asked.map(|torrent| {
            let hashes = *torrent.description.info_hashes();
            let known = [Some(hashes.truncated()), Some(hashes.best())].into_iter().flatten();
            let known = known.filter_map(|hash| self.state.by_hash.get(&hash).copied()).next();
            known.unwrap_or_else(|| self.insert_torrent(*torrent))
        });
        let (torrent, error) = match &result {
            Ok(torrent) => (*torrent, String::new()),
            Err(error) => (TorrentHandle::INVALID, format!(": {error}")),
        };
        let name = self.state.torrent(torrent).map_or_else(String::new, |t| t.name().to_owned());
        self.state.alert(AlertKind::AddTorrent { torrent, name, error });
        if let Some(ticket) = ticket {
            self.state.outputs.push_back(Output::Answer(ticket, Answer::Added(result)));
        }
    }

    fn insert_torrent(&mut self, asked: AddTorrent) -> TorrentHandle {
        let mut peers = asked.peers.clone();
        if let Description::Magnet(magnet) = &asked.description {
            // As with libtorrent: nobody told us but the user.
            peers.extend(magnet.peers.iter().map(|peer| (*peer, PeerSource::NONE)));
        }
        let userdata = asked.userdata;
        let extensions = asked.extensions.clone();
        let torrent = self.state.new_torrent(asked);
        extensions.into_iter().for_each(|extension| self.add_torrent_extension(torrent, extension));
        let Self { state, chains } = self;
        let sprouted = chains.session.sprout(state, (), SessionHooks::new_torrent, |p, cx, child| {
            let mut out = ROption::RNone;
            let status = p.new_torrent(cx, torrent, userdata, &mut out);
            *child = out.into_option();
            status
        });
        for (plugin, child) in sprouted.children {
            self.attach_torrent(torrent, plugin, child);
        }
        self.state.open_storage(torrent);
        self.state.greet_dht(torrent);
        self.state.schedule_lsd(torrent);
        for (address, source) in peers {
            self.state.steps.push_back(Step::OfferPeer(torrent, address, source));
        }
        self.update_announcing(torrent);
        torrent
    }
}

impl State {
    /// Makes room for a torrent. Nothing of it has been looked at.
    fn new_torrent(&mut self, asked: AddTorrent) -> TorrentHandle {
        let (now, unix_time) = (self.now, self.unix_time());
        let storage = StorageId(self.fresh_id());
        let save_path = asked.save_path.unwrap_or_else(|| self.settings.save_path.clone());
        let held_by_session = self.paused;
        let candidates = Candidates::new(self.candidate_limits.clone()).known_as(self.our_addresses.clone());
        let hashes = *asked.description.info_hashes();
        let layout = asked.description.layout();
        let trackers = Trackers::new(asked.description.trackers(), &mut self.rng);
        let state = match asked.description {
            Description::Magnet(_) => TorrentState::DOWNLOADING_METADATA,
            Description::Metainfo(_) => TorrentState::CHECKING_RESUME_DATA,
        };
        let mut web_seeds = WebSeeds::default();
        let (listed, http_seeds) = match &asked.description {
            Description::Magnet(magnet) => (&magnet.web_seeds[..], &[][..]),
            Description::Metainfo(metainfo) => (metainfo.web_seeds(), metainfo.http_seeds()),
        };
        for url in listed.iter().chain(&asked.web_seeds) {
            web_seeds.add(url, ConnectionType::URL_SEED);
        }
        for url in http_seeds {
            web_seeds.add(url, ConnectionType::HTTP_SEED);
        }
        let torrent = self.insert_torrent(|handle| Torrent {
            handle,
            picker: Picker::new(layout.geometry()).with_padding(layout.padding()),
            trackers,
            candidates,
            pieces_left: pieces_per_file(&layout),
            layout,
            metadata_from: None,
            description: asked.description,
            storage,
            save_path: save_path.into(),
            userdata: asked.userdata,
            state,
            paused: asked.paused,
            held_by_session,
            draining: false,
            pause_asked: None,
            check_only: asked.check_only,
            disable_pex: asked.disable_pex,
            removing: false,
            opened: false,
            files_checked: false,
            error: None,
            check_failed: false,
            web_seeds,
            peers: Vec::new(),
            company: None,
            pieces_checked: 0,
            disk_congested: false,
            budgets: [
                Budget::new(asked.limits.download_limit, now),
                Budget::new(asked.limits.upload_limit, now),
            ],
            super_seeding: asked.super_seeding,
            max_connections: asked.limits.max_connections,
            max_uploads: asked.limits.max_uploads,
            payload_down: Meter::new(now),
            payload_up: Meter::new(now),
            failed_bytes: 0,
            redundant_bytes: 0,
            timer: None,
            file_priorities: asked.file_priorities,
            record: Record::new(&hashes, asked.resume, unix_time),
        });
        let threshold = self.settings.initial_picker_threshold;
        if let Some(t) = self.torrent_mut(torrent) {
            t.picker.set_initial_picker_threshold(threshold);
            let wanted = std::mem::take(&mut t.file_priorities);
            t.prioritize_files(wanted);
            for (piece, priority) in t.geometry().pieces().zip(asked.piece_priorities) {
                t.picker.set_priority(piece, Priority::new(priority));
            }
            for ip in asked.banned_peers {
                t.candidates.ban(ip, BanReason::new(BanReason::PROGRAM, "it was banned before"));
            }
        }
        self.order.push(torrent);
        for hash in [hashes.truncated(), hashes.best()] {
            self.by_hash.insert(hash, torrent);
            self.by_obfuscated.insert(mse::obfuscated(&hash), hash);
        }
        self.by_storage.insert(storage, torrent);
        torrent
    }
}

/// The parameters that a plugin filled in.
///
/// # Errors
/// A line that says what is missing or wrong.
pub(super) fn read_params(params: &EntryTree) -> Result<AddTorrent, String> {
    let bytes = |key: &[u8]| params.get(EntryTree::ROOT, key).and_then(|id| params.bytes(id));
    let int = |key: &[u8]| params.get(EntryTree::ROOT, key).and_then(|id| params.int(id));
    let description = match (bytes(b"torrent"), bytes(b"magnet")) {
        (Some(file), _) => Description::from(Metainfo::parse(file).map_err(|error| error.to_string())?),
        (None, Some(link)) => magnet(&String::from_utf8_lossy(link))?,
        (None, None) => return Err("the parameters name no torrent".to_owned()),
    };
    let save_path = bytes(b"save_path").map(|path| PathBuf::from(String::from_utf8_lossy(path).into_owned()));
    Ok(AddTorrent {
        save_path,
        paused: int(b"paused").unwrap_or(0) != 0,
        disable_pex: int(b"disable_pex").unwrap_or(0) != 0,
        userdata: Userdata(int(b"userdata").unwrap_or(0).cast_unsigned()),
        ..AddTorrent::new(description)
    })
}

/// A link to a torrent that can be downloaded.
fn magnet(link: &str) -> Result<Description, String> {
    Ok(Magnet::parse(link).map_err(|error| error.to_string())?.into())
}
