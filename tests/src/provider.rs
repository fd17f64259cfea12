//! A telephone company: Kamailio, with an account for a trunk, and phones of its own customers.
//!
//! It wants digest for every INVITE, and for every re-INVITE and BYE of a call that the trunk made. Its realm is not its name.
//! Numbers are called as `+49…`; some of them do what no number should, see [`Provider`].

use std::net::{Ipv4Addr, SocketAddr};

use crate::kamailio::Kamailio;
use crate::{Answer, Phone, PhoneOptions};

/// The company's domain.
pub const PROVIDER: &str = "provider.test";
/// The realm in which it asks for passwords.
pub const REALM: &str = "customers";
/// The number of the trunk, which is its user name as well.
pub const TRUNK_NUMBER: &str = "4930123";
/// The password of every customer, the trunk's too.
pub const PROVIDER_PASSWORD: &str = "pstn-secret";

/// An address of its own, so that phones and strangers are somewhere else.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

const CONFIGURATION: &str = r#"alias="PROVIDER"
alias="127.0.0.2"
modparam("registrar", "min_expires", 5)
request_route {
  $var(within) = "begins";
  if (has_totag()) $var(within) = "within";
  xlog("L_NOTICE", "$rm $ru $var(within) from $fu ppi=$hdr(P-Preferred-Identity) src=$si contact=$ct expires=$hdr(Expires) proof=$hdr(Proxy-Authorization)$hdr(Authorization)\n");
  if (search_body("a=sendonly")) xlog("L_NOTICE", "$rm puts on hold\n");
  if (!mf_process_maxfwd_header("10")) { sl_send_reply("483", "Too Many Hops"); exit; }
  force_rport();
  if (is_method("CANCEL")) { if (t_check_trans()) t_relay(); exit; }
  if (has_totag()) {
    if (loose_route()) {
      if (is_method("INVITE|BYE") && check_route_param("trunk=yes") && is_direction("downstream")) {
        if (!pv_proxy_authenticate("REALM", "SECRET", "0")) { proxy_challenge("REALM", "1"); exit; }
        consume_credentials();
      }
      if (!t_relay()) sl_reply_error();
      exit;
    }
    if (is_method("ACK")) { if (t_check_trans()) t_relay(); exit; }
    sl_send_reply("404", "Not here"); exit;
  }
  t_check_trans();
  if (is_method("OPTIONS")) { sl_send_reply("200", "OK"); exit; }
  if (is_method("REGISTER")) {
    if (!pv_www_authenticate("REALM", "SECRET", "0")) { www_challenge("REALM", "1"); exit; }
    if ($au != $tU) { sl_send_reply("403", "Forbidden"); exit; }
    if (!save("location")) sl_reply_error();
    exit;
  }
  if (is_method("INVITE")) {
    if (!pv_proxy_authenticate("REALM", "SECRET", "0")) { proxy_challenge("REALM", "1"); exit; }
    if ($au != $fU) { sl_send_reply("403", "Forbidden"); exit; }
    $var(customer) = $au;
    consume_credentials();
    if ($rU == "+49302") { append_to_reply("Contact: <sip:49301@LISTEN>\r\n"); sl_send_reply("302", "Moved"); exit; }
    if ($rU == "+49407") {
      append_to_reply("Proxy-Authenticate: Digest realm=\"evil\", nonce=\"0123456789\", qop=\"auth\"\r\n");
      sl_send_reply("407", "Proxy Authentication Required"); exit;
    }
    if ($var(customer) == "TRUNK") record_route(";trunk=yes"); else record_route();
  }
  remove_hf("Route");
  if ($rU =~ "^\+") strip(1);
  if (!lookup("location")) { sl_send_reply("404", "No such number"); exit; }
  if (!t_relay()) sl_reply_error();
}
"#;

/// A running telephone company.
///
/// `+49301` and the like are its customers' phones, by [`Provider::customer`]; `+49302` answers 302, and `+49407` asks for a
/// password of somebody else's realm.
#[derive(Debug)]
pub struct Provider {
    kamailio: Kamailio,
}

impl Provider {
    /// Starts it.
    #[track_caller]
    pub fn start() -> Provider {
        let configuration = |_: &_| {
            CONFIGURATION
                .replace("PROVIDER", PROVIDER)
                .replace("REALM", REALM)
                .replace("SECRET", PROVIDER_PASSWORD)
                .replace("TRUNK", TRUNK_NUMBER)
        };
        Provider { kamailio: Kamailio::configured(ADDRESS, configuration) }
    }

    /// Where it listens, over UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.kamailio.address()
    }

    /// The phone of a customer with this number, registered.
    #[track_caller]
    pub fn customer(&self, number: &str, tone_hz: f64, answer: Answer) -> Phone {
        let options = PhoneOptions::new(number, PROVIDER_PASSWORD, self.address(), tone_hz).in_domain(PROVIDER);
        match answer {
            Answer::Auto => options.start(),
            Answer::ByHand => options.answered_by_hand().start(),
        }
    }

    /// The requests that it has seen and that begin like this, `INVITE sip:+49301`, a line each.
    pub fn requests(&self, beginning: &str) -> Vec<String> {
        let log = self.kamailio.log();
        let lines = log.lines().filter_map(|line| line.find(beginning).and_then(|at| line.get(at..)));
        lines.map(str::to_owned).collect()
    }

    /// The Contact with which the trunk is registered.
    pub fn trunk_contact(&self) -> Option<String> {
        let registered = self.requests("REGISTER ").into_iter().rfind(|line| line.contains(TRUNK_NUMBER))?;
        let contact = registered.split_once("contact=<")?.1;
        Some(contact.split_once('>')?.0.to_owned())
    }

    /// Ends it.
    pub fn stop(&mut self) {
        self.kamailio.stop();
    }

    /// Starts it again: nobody is registered any more.
    #[track_caller]
    pub fn start_again(&mut self) {
        self.kamailio.start_again();
    }
}
