//! The data directory: one process at a time, secrets that only their owner can read, and writes
//! that are either there in full or not at all. Nothing here ever prints what a secret file holds.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use portcullis_core::entropy::Entropy;
use zeroize::Zeroizing;

/// The longest token or key file that is read.
const MAX_TOKEN_BYTES: u64 = 4096;

/// A data directory that this process alone uses until the value is dropped.
#[derive(Debug)]
pub struct DataDirectory {
    path: PathBuf,
    // Held, never read: the lock ends with the descriptor, also after `kill -9`.
    _lock: File,
}

impl DataDirectory {
    /// Creates the directory if it is missing and takes its lock.
    ///
    /// # Errors
    ///
    /// When it cannot be created or written, or another process holds it; that one's pid is named.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).with_context(|| {
            format!(
                "the data directory {} cannot be created; choose another with --data",
                path.display()
            )
        })?;
        refuse_shared(path)?;
        let lock_path = path.join("lock");
        let writing = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path);
        let (mut lock, read_only) = match writing {
            Ok(lock) => (lock, false),
            // A directory that may only be read is locked like any other.
            Err(error) if forbids_writing(&error) && lock_path.exists() => {
                let lock = File::open(&lock_path)
                    .with_context(|| format!("{} cannot be opened", lock_path.display()))?;
                (lock, true)
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("{} cannot be opened for writing", lock_path.display())
                });
            }
        };
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The pid is advice for the reader: without it the refusal stands all the same.
                lock.take(20).read_to_string(&mut holder).unwrap_or_default();
                let holder = match holder.trim() {
                    "" => "another process",
                    pid => &format!("the process with pid {pid}"),
                };
                bail!(
                    "the data directory {} is in use by {holder}; stop it, or choose another directory with --data",
                    path.display()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error)
                    .with_context(|| format!("{} cannot be locked", lock_path.display()));
            }
        }
        if read_only {
            tracing::warn!(directory = %path.display(), "the data directory cannot be written");
            return Ok(Self { path: path.to_path_buf(), _lock: lock });
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .with_context(|| format!("{} cannot be written", lock_path.display()))?;
        Ok(Self { path: path.to_path_buf(), _lock: lock })
    }

    /// The path of `name` in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The 32 secret bytes of the file `name`; made on the first start and found on every later
    /// one. `first_start` says whether making them is allowed: a new pepper under an old database
    /// would silently end every key.
    ///
    /// # Errors
    ///
    /// When the file is missing on a later start, readable by others, or not 32 bytes long.
    pub fn secret_bytes(
        &self,
        name: &str,
        first_start: bool,
        entropy: &dyn Entropy,
    ) -> anyhow::Result<Zeroizing<[u8; 32]>> {
        let path = self.join(name);
        if !path.try_exists().with_context(|| format!("{} cannot be examined", path.display()))? {
            ensure!(
                first_start,
                "{} is missing although the database exists; restore it from a backup: keys and \
                 gateways depend on it",
                path.display()
            );
            let mut bytes = Zeroizing::new([0_u8; 32]);
            entropy.fill(bytes.as_mut_slice())?;
            write_secret(&path, bytes.as_slice())?;
        }
        read_secret_bytes(&path)
    }
}

fn forbids_writing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem)
}

/// Whoever may write into the directory could put secrets of their own into it.
fn refuse_shared(path: &Path) -> anyhow::Result<()> {
    let metadata = fs::metadata(path)
        .with_context(|| format!("the data directory {} cannot be examined", path.display()))?;
    ensure!(metadata.is_dir(), "the data directory {} is not a directory", path.display());
    let mode = metadata.mode() & 0o7777;
    ensure!(
        mode & 0o022 == 0,
        "the data directory {} has mode {mode:04o}; allowed: writable by its owner only (chmod 700 {})",
        path.display(),
        path.display()
    );
    Ok(())
}

/// The 32 secret bytes of a file such as a pepper.
///
/// # Errors
///
/// When the file is missing, readable by others, or of another length.
pub fn read_secret_bytes(path: &Path) -> anyhow::Result<Zeroizing<[u8; 32]>> {
    let content = read_secret(path, MAX_TOKEN_BYTES)?;
    let bytes: &[u8; 32] = content.as_slice().try_into().map_err(|_| {
        anyhow::anyhow!(
            "{} holds {} bytes; allowed: exactly 32 random bytes (head -c 32 /dev/urandom)",
            path.display(),
            content.len()
        )
    })?;
    Ok(Zeroizing::new(*bytes))
}

/// A secret key of one of two kinds.
pub enum SecretKey {
    /// A private key in PEM.
    Pem(Zeroizing<String>),
    /// 32 random bytes.
    Seed(Zeroizing<[u8; 32]>),
}

/// The key in a file: PEM, or 32 random bytes.
///
/// # Errors
///
/// When the file is missing, readable by others, or holds anything else.
pub fn read_secret_key(path: &Path) -> anyhow::Result<SecretKey> {
    let content = read_secret(path, MAX_TOKEN_BYTES)?;
    match std::str::from_utf8(&content) {
        Ok(text) if text.starts_with("-----BEGIN ") => {
            Ok(SecretKey::Pem(Zeroizing::new(text.to_owned())))
        }
        Ok(_) | Err(_) => read_secret_bytes(path).map(SecretKey::Seed),
    }
}

/// The token in a file: one line of visible ASCII; a line end after it is dropped.
///
/// # Errors
///
/// When the file is missing, readable by others, or holds anything else.
pub fn read_token(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let content = read_secret(path, MAX_TOKEN_BYTES)?;
    let line = content.strip_suffix(b"\n").unwrap_or(&content);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let well_formed = !line.is_empty() && line.iter().all(u8::is_ascii_graphic);
    ensure!(
        well_formed,
        "{} does not hold a token; allowed: one line of visible ASCII characters",
        path.display()
    );
    let text = String::from_utf8(line.to_vec()).context("visible ASCII is UTF-8")?;
    Ok(Zeroizing::new(text))
}

/// Reads a file that nobody but its owner may read.
fn read_secret(path: &Path, max_bytes: u64) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!("{} does not exist", path.display()),
        _ => anyhow::anyhow!("{} cannot be opened: {error}", path.display()),
    })?;
    // The descriptor is asked, not the path: what is checked is what is read.
    let metadata =
        file.metadata().with_context(|| format!("{} cannot be examined", path.display()))?;
    ensure!(metadata.is_file(), "{} is not a regular file", path.display());
    let mode = metadata.mode() & 0o7777;
    ensure!(
        mode & 0o077 == 0,
        "{} has mode {mode:04o}; allowed: 0600 or narrower, since it holds a secret (chmod 600 {})",
        path.display(),
        path.display()
    );
    ensure!(
        metadata.len() <= max_bytes,
        "{} holds {} bytes; allowed: at most {max_bytes}",
        path.display(),
        metadata.len()
    );
    let mut content = Zeroizing::new(Vec::with_capacity(usize::try_from(max_bytes + 1)?));
    file.take(max_bytes)
        .read_to_end(&mut content)
        .with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(content)
}

/// Writes a token and a line end, readable by the owner alone.
///
/// # Errors
///
/// When the disk refuses.
pub fn write_token(path: &Path, token: &str) -> anyhow::Result<()> {
    let mut line = Zeroizing::new(Vec::with_capacity(token.len() + 1));
    line.extend_from_slice(token.as_bytes());
    line.push(b'\n');
    write_secret(path, &line)
}

/// Writes a whole file with mode 0600: a temporary file, fsync, rename, fsync of the directory.
fn write_secret(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    write_whole(path, content, 0o600)
}

/// Replaces the file at `path`; a crash leaves either the old or the new content.
///
/// # Errors
///
/// When the disk refuses.
pub fn write_whole(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let name = path.file_name().with_context(|| format!("{} names no file", path.display()))?;
    let temporary = directory.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let create = || OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary);
    let written = (|| {
        let mut file = match create() {
            // Left by a process that was killed: in a container each one has the same pid.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                fs::remove_file(&temporary)?;
                create()?
            }
            created => created?,
        };
        // The umask may have narrowed the mode; it must be exactly what was asked.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(directory)?.sync_all()
    })();
    if written.is_err() {
        // Best effort: the error that matters is the first one.
        fs::remove_file(&temporary).unwrap_or_default();
    }
    written.with_context(|| format!("{} cannot be written", path.display()))
}

#[cfg(test)]
mod tests {
    use portcullis_core::entropy::EntropyFailure;

    use super::*;

    struct Sevens;

    impl Entropy for Sevens {
        fn fill(&self, out: &mut [u8]) -> Result<(), EntropyFailure> {
            out.fill(7);
            Ok(())
        }
    }

    fn scratch() -> tempfile::TempDir {
        tempfile::tempdir().expect("the machine has a temporary directory")
    }

    fn message<T: std::fmt::Debug>(result: anyhow::Result<T>) -> String {
        result.expect_err("the test expects a refusal").to_string()
    }

    #[test]
    fn a_second_opening_is_refused_with_the_pid_of_the_first() {
        let scratch = scratch();
        let path = scratch.path().join("data");
        let first = DataDirectory::open(&path).expect("the first opening succeeds");
        let refusal = message(DataDirectory::open(&path));
        let expected = format!("is in use by the process with pid {};", std::process::id());
        assert!(refusal.contains(&expected), "{refusal}");
        drop(first);
        DataDirectory::open(&path).expect("the lock ended with the first owner");
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let scratch = scratch();
        fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o770)).expect("changed");
        let refusal = message(DataDirectory::open(scratch.path()));
        assert!(
            refusal.contains("has mode 0770; allowed: writable by its owner only"),
            "{refusal}"
        );
    }

    #[test]
    fn what_a_killed_process_left_half_written_is_replaced() {
        let scratch = scratch();
        let path = scratch.path().join("token");
        let left = scratch.path().join(format!(".token.{}", std::process::id()));
        fs::write(&left, "half").expect("written");
        write_token(&path, "ptc_abc").expect("written");
        assert_eq!(read_token(&path).expect("read").as_str(), "ptc_abc");
        assert!(!left.exists());
    }

    #[test]
    fn a_secret_is_made_once_with_mode_0600_and_found_again() {
        let scratch = scratch();
        let directory = DataDirectory::open(scratch.path()).expect("opens");
        let made = directory.secret_bytes("pepper.1", true, &Sevens).expect("made");
        assert_eq!(*made, [7; 32]);
        let mode = fs::metadata(directory.join("pepper.1")).expect("exists").mode();
        assert_eq!(mode & 0o777, 0o600);
        let found = directory.secret_bytes("pepper.1", false, &Sevens).expect("found");
        assert_eq!(*found, [7; 32]);
    }

    #[test]
    fn a_missing_secret_under_an_existing_database_is_not_made_anew() {
        let scratch = scratch();
        let directory = DataDirectory::open(scratch.path()).expect("opens");
        let refusal = message(directory.secret_bytes("pepper.1", false, &Sevens));
        assert!(refusal.contains("pepper.1 is missing although the database exists"), "{refusal}");
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused_with_the_command_that_mends_it() {
        let scratch = scratch();
        let path = scratch.path().join("pepper.1");
        write_whole(&path, &[1; 32], 0o640).expect("written");
        let refusal = message(read_secret_bytes(&path));
        assert!(refusal.contains("has mode 0640; allowed: 0600 or narrower"), "{refusal}");
        assert!(refusal.contains("chmod 600"), "{refusal}");
    }

    #[test]
    fn a_secret_of_another_length_is_refused() {
        let scratch = scratch();
        let path = scratch.path().join("pepper.1");
        write_whole(&path, &[1; 31], 0o600).expect("written");
        let refusal = message(read_secret_bytes(&path));
        assert!(refusal.contains("holds 31 bytes; allowed: exactly 32"), "{refusal}");
    }

    #[test]
    fn a_token_file_holds_one_visible_line() {
        let scratch = scratch();
        let path = scratch.path().join("token");
        write_token(&path, "ptc_abc").expect("written");
        assert_eq!(read_token(&path).expect("read").as_str(), "ptc_abc");
        for broken in ["", "two words\n", "a\nb\n", "\u{e9}\n"] {
            write_whole(&path, broken.as_bytes(), 0o600).expect("written");
            let refusal = message(read_token(&path));
            assert!(refusal.contains("allowed: one line of visible ASCII"), "{refusal}");
        }
    }
}
