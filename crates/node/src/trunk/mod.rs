//! Trunks: lines to telephone companies, or to somebody else's exchange, with an account there.
//!
//! | module | what |
//! | --- | --- |
//! | `rules` | which dialled numbers a trunk takes; pure |

#![allow(dead_code, reason = "calls over trunks come with the client side of the agent")]

mod rules;

pub use rules::DigitRule;
pub(crate) use rules::dial;

/// One line to a provider.
#[derive(Clone)]
pub struct TrunkConfig {
    /// What it is called here.
    pub name: String,
    /// The provider's server: host or address, with `:port` and `;transport=` where they matter.
    pub server: String,
    /// The provider's domain, for From and To; the server's host if it has none of its own.
    pub domain: String,
    /// User of the account there.
    pub user: String,
    /// Its password; none for a line that is known by its address.
    pub password: Option<String>,
    /// The realm of the password, where the provider's is not spelled like its domain.
    pub realm: Option<String>,
    /// Whether to register there, so that calls come in.
    pub register: bool,
    /// Who is called when a call comes in.
    pub inbound: TrunkInbound,
    /// Which numbers go out.
    pub outbound: Vec<DigitRule>,
    /// Users who may call out; all of them if there is no list.
    pub callers: Option<Vec<String>>,
    /// Calls at once, both ways.
    pub max_calls: usize,
}

/// Who is called when a call comes in over a trunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrunkInbound {
    /// Nobody: such calls are refused.
    Nobody,
    /// This user.
    User(String),
    /// Whoever has the number that was called.
    CalledNumber,
}

/// Calls at once where the configuration says nothing: what the smallest offers of providers allow.
pub const CALLS_PER_TRUNK: usize = 4;

impl std::fmt::Debug for TrunkConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrunkConfig").field("name", &self.name).field("server", &self.server).finish_non_exhaustive()
    }
}

impl TrunkConfig {
    /// What to dial there when `user` dials `number` here.
    pub(crate) fn dial(&self, number: &str) -> Option<String> {
        dial(&self.outbound, number)
    }

    /// Whether a user here may call out.
    pub(crate) fn permits(&self, user: &str) -> bool {
        self.callers.as_ref().is_none_or(|callers| callers.iter().any(|caller| caller == user))
    }
}
