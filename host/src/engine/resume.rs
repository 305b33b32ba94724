//! Fast resume: what is handed out to be written down of a torrent, and what is made of it at the next start.
//!
//! Why a record can be believed, and how far, stands in [`crate::metainfo::resume`]. A record is made in two steps: the disk
//! looks what the files are like, and then what is verified is put beside that. Of a torrent that is paused or finished, and
//! when the session ends, the disk is asked once everything is written, so that the record is a closed one.

use std::collections::HashSet;

use pilotfish_plugin::{PieceOrigin, TorrentHandle, TorrentHooks, TorrentState};

use super::Engine;
use super::output::Output;
use super::state::{SessionPhase, State};
use crate::alert::AlertKind;
use crate::command::{Answer, SaveResumeFlags, Ticket};
use crate::job::{DiskJob, StorageId};
use crate::metainfo::resume::{Fit, Misfit, Stamps};
use crate::metainfo::{PieceIndex, Resume};
use crate::peer::as_piece;
use crate::torrent::Looking;

impl Engine {
    /// The disk has looked what a torrent's files are like: to compare them with a record, or for a new one.
    pub(super) fn on_stamped(&mut self, storage: StorageId, stamps: &Stamps) {
        let Some(torrent) = self.state.stored(storage) else { return };
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        let Some(resume) = t.record.restored.take() else { return self.state.record(torrent, stamps) };
        match resume.fit(t.description.info_hashes(), &t.layout, stamps) {
            Ok(fit) => self.restore(torrent, fit),
            Err(misfit) => self.check_all(torrent, stamps, &misfit),
        }
    }

    /// Nothing of the record can be used.
    fn check_all(&mut self, torrent: TorrentHandle, stamps: &Stamps, misfit: &Misfit) {
        self.state.reject_record(torrent, String::new(), misfit.to_string());
        match stamps.files.iter().flatten().any(|stamp| stamp.size > 0) {
            true => self.begin_check(torrent),
            false => self.files_checked(torrent),
        }
    }

    /// Has what the record knows, and hashes what it may be wrong about.
    fn restore(&mut self, torrent: TorrentHandle, fit: Fit) {
        self.state.tell_of_changes(torrent, &fit);
        let Some(t) = self.state.torrent_mut(torrent) else { return };
        let storage = t.storage;
        let hashed = fit.hash.len() + fit.hash_if_written.len();
        t.pieces_checked =
            t.geometry().num_pieces().saturating_sub(u32::try_from(hashed).unwrap_or(u32::MAX));
        t.record.unsure = fit.unfinished;
        let hashes: HashSet<PieceIndex> = fit.hash.iter().chain(&fit.hash_if_written).copied().collect();
        let kept: Vec<_> = t.record.unsure.keys().filter(|piece| !hashes.contains(piece)).copied().collect();
        fit.trusted.iter().for_each(|piece| t.picker.set_have(*piece));
        self.state.disk(DiskJob::Restore { storage, pieces: fit.trusted.clone(), unfinished: Vec::new() });
        kept.into_iter().for_each(|piece| self.state.keep_blocks(torrent, piece));
        for piece in fit.trusted {
            let number = as_piece(piece.get());
            self.tell_torrent(torrent, TorrentHooks::on_piece_pass, |p, cx| {
                p.on_piece_pass(cx, number, PieceOrigin::RESUME)
            });
            self.state.note_files(torrent, piece, false);
        }
        self.pump();
        if hashed == 0 {
            return self.files_checked(torrent);
        }
        self.set_state(torrent, TorrentState::CHECKING_FILES);
        let (pieces, written) = (fit.hash, fit.hash_if_written);
        self.state.disk(DiskJob::CheckPieces { storage, pieces, written });
    }
}

impl State {
    /// Somebody wants a record of a torrent.
    pub(super) fn save_resume_data(
        &mut self,
        ticket: Ticket,
        torrent: TorrentHandle,
        flags: SaveResumeFlags,
    ) {
        let Some(t) = self.torrent(torrent).filter(|t| !t.removing) else {
            return self.outputs.push_back(Output::Answer(ticket, Answer::ResumeData(None)));
        };
        let refusal = match () {
            () if t.has_metadata() && !t.files_checked => "its files are being checked",
            () if !flags.are_met_by(t.changes()) => "nothing has changed",
            () => {
                if let Some(t) = self.torrent_mut(torrent) {
                    t.record.waiting.push((ticket, flags));
                }
                return self.look_for_record(torrent);
            }
        };
        // Who sets a condition knows what it means that nothing comes.
        if flags.are_met_by(SaveResumeFlags::NONE) {
            let name = t.name().to_owned();
            self.alert(AlertKind::SaveResumeDataFailed { torrent, name, error: refusal.to_owned() });
        }
        self.outputs.push_back(Output::Answer(ticket, Answer::ResumeData(None)));
    }

    /// Has the disk look at the files, if anybody waits for a record. If nothing more will be written soon, that waits until
    /// everything is.
    pub(super) fn look_for_record(&mut self, torrent: TorrentHandle) {
        let closing = self.phase == SessionPhase::Closing;
        let Some(t) = self.torrent_mut(torrent) else { return };
        let wanted = t.record.last || !t.record.waiting.is_empty();
        if !wanted || t.record.look.is_some() {
            return;
        }
        if !t.opened {
            return self.record(torrent, &Stamps::default());
        }
        let settled = closing || t.has_settled();
        if settled && t.record.unwritten > 0 {
            return;
        }
        t.record.look = Some(Looking { handed_over: t.record.handed_over, settled });
        let storage = t.storage;
        self.disk(DiskJob::Stamp { storage });
    }

    /// It is known what the files are like: here is the record, for all who wait for it.
    fn record(&mut self, torrent: TorrentHandle, stamps: &Stamps) {
        let closing = self.phase == SessionPhase::Closing;
        let Some(t) = self.torrent_mut(torrent) else { return };
        let (look, waiting) = (t.record.look.take(), std::mem::take(&mut t.record.waiting));
        if t.has_metadata() && !t.files_checked {
            // A check has begun meanwhile.
            return self.refuse_all(waiting);
        }
        let as_then = |look: Looking| look.settled && look.handed_over == t.record.handed_over;
        let closed = (closing || t.has_settled()) && look.is_some_and(as_then);
        let resume = t.resume_data(stamps, closed);
        t.record.saved();
        t.record.saved_totals = t.totals();
        let (name, info, last) = (t.name().to_owned(), t.info(), std::mem::take(&mut t.record.last));
        let with = |flags: SaveResumeFlags| {
            let info = info.clone().filter(|_| flags.contains(SaveResumeFlags::SAVE_INFO_DICT));
            Resume { info, ..resume.clone() }
        };
        if last {
            let storage = t.storage;
            if let Some((_, flags, records)) = &mut self.resume_at_end {
                records.push(with(*flags));
            }
            self.disk(DiskJob::Close { storage, delete_files: false });
        }
        self.alert(AlertKind::SaveResumeData { torrent, name });
        for (ticket, flags) in waiting {
            let answer = Answer::ResumeData(Some(Box::new(with(flags))));
            self.outputs.push_back(Output::Answer(ticket, answer));
        }
    }

    /// The torrent goes: whoever waits for a record waits in vain.
    pub(super) fn refuse_records(&mut self, torrent: TorrentHandle) {
        if let Some(t) = self.torrent_mut(torrent) {
            let waiting = std::mem::take(&mut t.record.waiting);
            self.refuse_all(waiting);
        }
    }

    fn refuse_all(&mut self, waiting: Vec<(Ticket, SaveResumeFlags)>) {
        let refused = waiting.into_iter().map(|(ticket, _)| Output::Answer(ticket, Answer::ResumeData(None)));
        self.outputs.extend(refused);
    }

    /// Whether a torrent's files stay open for one more record, at the end of the session.
    pub(super) fn wants_last_record(&mut self, storage: StorageId) -> bool {
        let wanted = self.resume_at_end.is_some();
        let Some(torrent) = self.stored(storage).filter(|_| wanted) else { return false };
        let Some(t) = self.torrent_mut(torrent).filter(|t| t.files_checked && t.opened) else { return false };
        t.record.last = true;
        self.look_for_record(torrent);
        true
    }

    /// The session has ended: whoever asked for everybody's record gets them.
    pub(super) fn hand_out_last_records(&mut self) {
        if let Some((ticket, _, records)) = self.resume_at_end.take() {
            self.outputs.push_back(Output::Answer(ticket, Answer::AllResumeData(records)));
        }
    }

    /// Has the files compared with the record that the torrent was added with, if there is one.
    pub(super) fn compares_record(&mut self, torrent: TorrentHandle) -> bool {
        let Some(t) = self.torrent(torrent).filter(|t| t.record.restored.is_some()) else { return false };
        let storage = t.storage;
        self.disk(DiskJob::Stamp { storage });
        true
    }

    /// A piece is not there, but some of its blocks are.
    pub(super) fn keep_blocks(&mut self, torrent: TorrentHandle, piece: PieceIndex) {
        let Some(t) = self.torrent_mut(torrent) else { return };
        let Some(written) = t.record.unsure.remove(&piece) else { return };
        // One of which everything is there was wrong: nobody knows where.
        if written.contains(&true) && written.contains(&false) {
            t.picker.keep(piece, &written);
            let (storage, unfinished) = (t.storage, vec![(piece, written)]);
            self.disk(DiskJob::Restore { storage, pieces: Vec::new(), unfinished });
        }
    }

    /// Says which files are not what the record says.
    fn tell_of_changes(&mut self, torrent: TorrentHandle, fit: &Fit) {
        let Some(t) = self.torrent(torrent) else { return };
        let path = |file: usize| t.save_path.join(&t.layout.files()[file].path).display().to_string();
        let Some(first) = fit.changed.first() else { return };
        let (file, others) = (path(first.file), fit.changed.len() - 1);
        let others = if others > 0 { format!("; and {others} more files changed") } else { String::new() };
        let error = format!("{file}: {}{others}", first.change);
        self.reject_record(torrent, file, error);
    }

    fn reject_record(&mut self, torrent: TorrentHandle, file: String, error: String) {
        if let Some(t) = self.torrent(torrent) {
            let name = t.name().to_owned();
            self.alert(AlertKind::FastresumeRejected { torrent, name, file, error });
        }
    }
}
