//! Log lines of plugins: alerts of the session log.

use pilotfish_plugin::AlertCategory;
use pilotfish_plugin::rt::abi_stable::std_types::RStr;

use super::{YES, host_functions, yes_if};
use crate::alert::AlertKind;

host_functions! {
    fn log(state, level: u8, text: RStr<'_>) {
        let plugin = state.plugin_name(state.calling);
        state.alert(AlertKind::Log { plugin, level: level.into(), text: text.as_str().to_owned() });
        YES
    }

    fn enabled(state, _level: u8) {
        yes_if(state.wants_alert(AlertCategory::SESSION_LOG))
    }
}
