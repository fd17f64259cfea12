//! Changes of this machine's network: interfaces and addresses that come and go, as the system tells of them.

use iroh::Watcher as _;
use netwatch::netmon::Monitor;

/// Calls `act` whenever the machine's interfaces, addresses or routes have changed, for as long as this is polled. Where the system does
/// not tell, it ends at once.
pub async fn follow_network(act: impl Fn()) {
    let Ok(monitor) = Monitor::new().await else { return };
    let mut state = monitor.interface_state();
    while state.updated().await.is_ok() {
        act();
    }
}
