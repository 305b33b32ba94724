#![allow(clippy::unwrap_used)]

use super::*;

fn refusal(name: &str, text: &str) -> String {
    let mut settings = Settings::default();
    let refusal = settings.set(name, text).unwrap_err().to_string();
    assert_eq!(settings, Settings::default(), "a refused value changed something");
    assert!(!refusal.contains('\n'), "{refusal:?} is more than one line");
    refusal
}

#[test]
fn the_defaults_are_within_their_limits() {
    Settings::default().check().unwrap();
}

#[test]
fn every_value_is_written_as_it_is_read() {
    let defaults = Settings::default();
    for &name in Settings::names() {
        let text = defaults.get(name).unwrap();
        let mut settings = Settings::default();
        settings.set(name, &text).unwrap();
        assert_eq!(settings, defaults, "{name}={text}");
    }
}

#[test]
fn the_listing_has_every_setting_with_its_value_and_doc() {
    let settings = Settings::default();
    let listed: Vec<_> = settings.iter().collect();
    assert_eq!(listed.iter().map(|row| row.0).collect::<Vec<_>>(), Settings::names());
    for (name, value, doc) in listed {
        assert_eq!(settings.get(name), Some(value));
        assert!(!doc.starts_with(' ') && doc.ends_with('.') && !doc.contains("  "), "{name}: {doc:?}");
    }
}

#[test]
fn no_name_is_in_the_table_twice() {
    let mut names = Settings::names().to_vec();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), Settings::names().len());
}

#[test]
fn numbers_are_kept_within_their_limits() {
    let mut settings = Settings::default();
    settings.set("min_reconnect_time", "1").unwrap();
    assert_eq!(settings.min_reconnect_time.duration(), std::time::Duration::from_secs(1));
    for text in ["0", "3601", "-1", "15s", "", " 15"] {
        assert_eq!(
            refusal("unchoke_interval", text),
            format!(
                "unchoke_interval cannot be {text:?}: it may be a whole number from 1 to 3600, in seconds"
            )
        );
    }
}

#[test]
fn a_field_written_directly_is_checked_too() {
    let settings = Settings { unchoke_interval: Seconds(0), ..Settings::default() };
    assert!(settings.check().unwrap_err().to_string().starts_with("unchoke_interval cannot be \"0\""));
}

#[test]
fn switches_are_numbers_or_words() {
    let mut settings = Settings::default();
    for (text, value) in [("1", true), ("0", false), ("true", true), ("false", false)] {
        settings.set("anonymous_mode", text).unwrap();
        assert_eq!(settings.anonymous_mode, value);
    }
    assert_eq!(
        refusal("anonymous_mode", "2"),
        "anonymous_mode cannot be \"2\": it may be 1 or true, 0 or false"
    );
}

#[test]
fn interfaces_are_addresses_with_ports() {
    let mut settings = Settings::default();
    assert_eq!(settings.get("listen_interfaces").unwrap(), "0.0.0.0:6881,[::]:6881");
    settings.set("listen_interfaces", "127.0.0.1:0, [::1]:7").unwrap();
    assert_eq!(settings.listen_interfaces.0, ["127.0.0.1:0".parse().unwrap(), "[::1]:7".parse().unwrap()]);
    settings.set("listen_interfaces", "").unwrap();
    assert!(settings.listen_interfaces.0.is_empty());
    for text in ["6881", "eth0:6881", "127.0.0.1", "::1:7", "127.0.0.1:1,,", "127.0.0.1:65536"] {
        assert!(refusal("listen_interfaces", text).contains("IP:PORT"), "{text}");
    }
}

#[test]
fn an_alert_mask_is_a_sum_of_bits_or_all() {
    let mut settings = Settings::default();
    assert_eq!(settings.get("alert_mask").unwrap(), "0x1");
    for (text, mask) in [
        ("65", AlertCategory::ERROR | AlertCategory::STATUS),
        ("0x41", AlertCategory::ERROR | AlertCategory::STATUS),
        ("all", AlertCategory::ALL),
        ("4294967295", AlertCategory::ALL),
        ("0", AlertCategory::NONE),
    ] {
        settings.set("alert_mask", text).unwrap();
        assert_eq!(settings.alert_mask, mask, "{text}");
    }
    for text in ["", "0x", "0x+1", "error", "4294967296"] {
        refusal("alert_mask", text);
    }
}

#[test]
fn texts_have_a_length_and_no_line_breaks() {
    refusal("user_agent", "a\r\nHost: b");
    refusal("peer_fingerprint", "-PF0100-and-much-more");
    refusal("save_path", "");
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest() {
    assert_eq!(
        refusal("min_reconect_time", "1"),
        "there is no setting \"min_reconect_time\"; did you mean min_reconnect_time?"
    );
    assert_eq!(
        refusal("watermark", "1"),
        "there is no setting \"watermark\"; did you mean send_buffer_watermark, send_buffer_low_watermark \
         or send_buffer_watermark_factor?"
    );
    assert_eq!(refusal("zzz", "1"), "there is no setting \"zzz\"");
    assert_eq!(refusal("a\nb", "1"), "there is no setting \"a\\nb\"");
    refusal(&"timeout".repeat(100_000), "1");
    assert_eq!(Settings::default().get("zzz"), None);
}

#[test]
fn the_fingerprint_is_of_the_azureus_form() {
    let settings = Settings::default();
    assert_eq!(settings.peer_id_prefix().len(), 8);
    assert!(settings.peer_fingerprint.starts_with("-PF") && settings.peer_fingerprint.ends_with('-'));
}

#[test]
fn peers_are_told_the_version_unless_we_are_anonymous() {
    let mut settings = Settings::default();
    assert_eq!(settings.client_version(), Some(settings.user_agent.as_str()));
    settings.set("handshake_client_version", "Remora/2").unwrap();
    assert_eq!(settings.client_version(), Some("Remora/2"));
    settings.set("anonymous_mode", "1").unwrap();
    assert_eq!((settings.client_version(), settings.peer_id_prefix()), (None, &[][..]));
}

#[test]
fn the_request_queue_fills_ten_gigabits_at_a_hundred_milliseconds() {
    let bytes_under_way = 10_000_000_000 / 8 / 10;
    assert!(u64::from(Settings::default().max_out_request_queue) * 16_384 >= bytes_under_way);
}
