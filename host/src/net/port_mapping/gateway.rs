//! Which router leads to the rest of the world: the default gateway, as the system's table of routes has it.

use std::net::Ipv4Addr;

/// Why there is nobody to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::net) enum NoGateway {
    /// No route leads everywhere. That may change.
    #[error("there is no default gateway")]
    NoRoute,
    /// Where the table is kept is not known for this system.
    #[error("the default gateway is not known on this system")]
    #[cfg_attr(target_os = "linux", allow(dead_code, reason = "it is known here"))]
    Unknown,
}

/// The default gateway.
#[cfg(target_os = "linux")]
pub(super) fn default_gateway() -> Result<Ipv4Addr, NoGateway> {
    // The kernel makes it up as it is read: this waits for nothing.
    let table = std::fs::read_to_string("/proc/net/route").map_err(|_| NoGateway::NoRoute)?;
    in_table(&table).ok_or(NoGateway::NoRoute)
}

/// The default gateway.
#[cfg(not(target_os = "linux"))]
pub(super) fn default_gateway() -> Result<Ipv4Addr, NoGateway> {
    Err(NoGateway::Unknown)
}

/// The gateway of the default route in Linux's table; of several, of the one with the lowest metric.
#[cfg(any(target_os = "linux", test))]
fn in_table(table: &str) -> Option<Ipv4Addr> {
    let routes = table.lines().skip(1).filter_map(default_route);
    routes.min_by_key(|(metric, _)| *metric).map(|(_, gateway)| gateway)
}

/// Metric and gateway of a line of the table, if it is a default route that is up and has one.
#[cfg(any(target_os = "linux", test))]
fn default_route(line: &str) -> Option<(u32, Ipv4Addr)> {
    const UP_THROUGH_GATEWAY: u32 = 0x3;
    let cells: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_, destination, gateway, flags, _, _, metric, mask, ..] = cells[..] else { return None };
    let number = |cell| u32::from_str_radix(cell, 16).ok();
    let through = number(flags)? & UP_THROUGH_GATEWAY == UP_THROUGH_GATEWAY;
    let everywhere = number(destination)? == 0 && number(mask)? == 0;
    // Printed as the number that its bytes, which are those on the wire, are in this machine's memory.
    let gateway = Ipv4Addr::from(number(gateway)?.to_ne_bytes());
    (through && everywhere && !gateway.is_unspecified()).then_some((metric.parse().ok()?, gateway))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";

    fn printed(ip: [u8; 4]) -> String {
        format!("{:08X}", u32::from_ne_bytes(ip))
    }

    #[test]
    fn the_default_route_with_the_lowest_metric_leads_to_the_gateway() {
        let [wired, wireless, network] = [[192, 168, 1, 1], [10, 0, 0, 138], [192, 168, 1, 0]].map(printed);
        let table = format!(
            "{HEAD}wlan0\t00000000\t{wireless}\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
             eth0\t00000000\t{wired}\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             eth0\t{network}\t00000000\t0001\t0\t0\t100\t{}\t0\t0\t0\n",
            printed([255, 255, 255, 0]),
        );
        assert_eq!(in_table(&table), Some(Ipv4Addr::new(192, 168, 1, 1)));
    }

    #[test]
    fn a_route_that_is_down_or_leads_to_no_gateway_or_not_everywhere_is_none() {
        let gateway = printed([192, 168, 1, 1]);
        for line in [
            format!("eth0 00000000 {gateway} 0002 0 0 0 00000000 0 0 0"),
            format!("tun0 00000000 {gateway} 0001 0 0 0 00000000 0 0 0"),
            "ppp0 00000000 00000000 0003 0 0 0 00000000 0 0 0".to_owned(),
            format!("eth0 {gateway} {gateway} 0003 0 0 0 FFFFFFFF 0 0 0"),
            format!("eth0 00000000 {gateway} 0003 0 0 0 00000080 0 0 0"),
            format!("eth0 00000000 {gateway} 0003 0 0"),
            format!("eth0 00000000 {gateway}00 0003 0 0 0 00000000 0 0 0"),
            format!("eth0 00000000 {gateway} 0003 0 0 x 00000000 0 0 0"),
            "???".to_owned(),
            String::new(),
        ] {
            assert_eq!(in_table(&format!("{HEAD}{line}\n")), None, "{line}");
        }
        assert_eq!(in_table(""), None);
    }
}
