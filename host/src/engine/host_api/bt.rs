//! What `bt_peer_connection_handle` adds.

use pilotfish_plugin::rt::abi_stable::std_types::ROption;
use pilotfish_plugin::{CipherBox, PeerHandle, Reserved};

use super::{YES, host_functions, yes_if};
use crate::engine::step::{Boxed, Step};

host_functions! {
    fn packet_finished(state, peer: PeerHandle) {
        yes_if(state.peer(peer)?.packet_finished)
    }

    fn switch_send_crypto(state, peer: PeerHandle, cipher: ROption<CipherBox>) {
        let connection = state.peer_mut(peer).filter(|connection| !connection.is_closing())?;
        let from = connection.outbox.end();
        let owner = state.calling;
        state.steps.push_back(Step::SwitchSendCipher { peer, owner, from, cipher: Boxed(cipher.into_option()) });
        YES
    }

    fn switch_recv_crypto(state, peer: PeerHandle, cipher: ROption<CipherBox>) {
        state.peer(peer).filter(|connection| !connection.is_closing())?;
        let owner = state.calling;
        state.steps.push_back(Step::SwitchRecvCipher { peer, owner, cipher: Boxed(cipher.into_option()) });
        YES
    }

    fn reserved(state, peer: PeerHandle, out: &mut Reserved) {
        *out = Reserved(state.peer(peer)?.reserved.0);
        YES
    }
}
