//! The unix socket: made so that nobody else can open it, not even for a moment, and removed when it is stale.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use tokio::net::UnixListener;

/// The socket's name in the data folder.
pub const SOCKET: &str = "control.sock";

/// Opens the socket in the data folder, whose store the caller has open: a socket that is there already was left by a
/// process that died, and is replaced.
///
/// # Errors
/// [`ErrorKind::AddrInUse`] when somebody answers there after all, [`ErrorKind::AlreadyExists`] when it is no socket,
/// and whatever the system says.
pub fn bind(data: &Path) -> io::Result<UnixListener> {
    let path = data.join(SOCKET);
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    clear(&path).map_err(named)?;

    // `keys/` is the owner's alone, so the socket is safe there until its own rights are set.
    let sheltered = data.join("keys").join(SOCKET);
    clear(&sheltered).map_err(named)?;
    let listener = UnixListener::bind(&sheltered).map_err(named)?;
    fs::set_permissions(&sheltered, fs::Permissions::from_mode(0o600)).map_err(named)?;
    fs::rename(&sheltered, &path).map_err(named)?;
    Ok(listener)
}

/// Removes the socket at a clean end.
pub fn remove(data: &Path) {
    // If it stays, the next start removes it.
    let _ = fs::remove_file(data.join(SOCKET));
}

fn clear(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => Err(ErrorKind::AlreadyExists.into()),
        Ok(_) if UnixStream::connect(path).is_ok() => Err(ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path),
    }
}
