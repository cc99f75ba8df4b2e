//! The one door to the disk: every file operation of the log goes through [`Disk`], so that a simulator can crash, tear,
//! reorder and fail each of them. [`RealDisk`] is the operating system's.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::LogError;

/// Keeps a directory owned until dropped.
pub type DirectoryLock = Box<dyn HeldDirectory>;

/// A directory that this process owns.
pub trait HeldDirectory: Send + Sync {
    /// Whether the directory's path still leads to the directory that is held.
    fn is_in_place(&self) -> io::Result<bool> {
        Ok(true)
    }
}

/// For disks whose directories nobody else moves.
impl HeldDirectory for () {}

/// Directories and names. Nothing that these functions change is durable before [`Disk::sync_dir`].
pub trait Disk: Send + Sync + 'static {
    /// Makes the directory and its parents, durably; it may exist.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in any order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Makes a file that must not exist yet.
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Makes a file, or empties the one there is.
    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens for reading and writing.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens for reading; works beside a running owner.
    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Replaces `to` in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Makes what happened to names in this directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Whether there is such a file.
    fn exists(&self, path: &Path) -> io::Result<bool> {
        match self.open_read(path) {
            Ok(_) => Ok(true),
            Err(error) if is_absence(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }
    /// Owns the directory; `Err(holder)` names the process that does.
    fn lock(&self, dir: &Path) -> io::Result<Result<DirectoryLock, String>>;
}

/// One file, by offsets, so that readers and the writer share a handle.
pub trait DiskFile: Send + Sync {
    /// May read less than asked; 0 at the end.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
    /// May write less than asked.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;
    /// Whether `path` still names this open file: an unlinked file takes writes and syncs, and is gone with its last handle.
    fn is_at(&self, _path: &Path) -> io::Result<bool> {
        Ok(true)
    }
}

/// Whether an error says that a path leads nowhere.
fn is_absence(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Whether `path` names what `file` has open.
#[cfg(unix)]
fn names(path: &Path, file: &File) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let at_path = match fs::metadata(path) {
        Ok(at_path) => at_path,
        Err(error) if is_absence(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    let open = file.metadata()?;
    Ok((open.dev(), open.ino()) == (at_path.dev(), at_path.ino()))
}

/// Elsewhere files have no identity that the standard library knows; that something is there must do.
#[cfg(not(unix))]
fn names(path: &Path, _file: &File) -> io::Result<bool> {
    path.try_exists()
}

/// Writes all of `bytes` at `offset`. After an error any part of it may have been written.
pub(crate) fn write_all_at(file: &dyn DiskFile, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(offset, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                offset += written as u64;
                bytes = &bytes[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `buffer` from `offset`; returns how much there was before the end of the file.
pub(crate) fn read_full_at(file: &dyn DiskFile, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(offset + filled as u64, &mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The whole content of a small file, `None` if there is no such file.
pub(crate) fn read_small(disk: &dyn Disk, path: &Path, bytes_max: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = vec![0; bytes_max];
    let filled = read_full_at(file.as_ref(), 0, &mut content)?;
    content.truncate(filled);
    Ok(Some(content))
}

/// Replaces the small file `dir/name` durably: after a crash it is the old one or the new one, whole.
pub(crate) fn replace_small(disk: &dyn Disk, dir: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    let temporary = dir.join(format!("{name}.tmp"));
    let written = disk.create(&temporary).and_then(|file| {
        write_all_at(file.as_ref(), 0, content)?;
        file.sync()
    });
    if let Err(error) = written {
        // The leftover is emptied by the next attempt; a full disk wants its bytes back now.
        if let Err(leftover) = disk.remove(&temporary) {
            tracing::debug!(path = %temporary.display(), error = %leftover, "a temporary file stays behind");
        }
        return Err(error);
    }
    disk.rename(&temporary, &dir.join(name))?;
    disk.sync_dir(dir)
}

/// The error for callers; a full disk or an exhausted quota is its own case.
pub(crate) fn io_error(action: &'static str, path: &Path, source: io::Error) -> LogError {
    let path = path.display().to_string();
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => LogError::Full { path },
        _ => LogError::Io { action, path, source },
    }
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// Locked while a process owns the directory.
const LOCK_NAME: &str = "lock";
/// Says which process that is; apart, because a locked file cannot be read on every platform.
const OWNER_NAME: &str = "owner";

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir(parent)?;
        }
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => self.sync_dir(parent.unwrap_or(Path::new("."))),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(
            OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .open(path)?,
        )))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(
            OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)?,
        )))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(
            OpenOptions::new().read(true).write(true).open(path)?,
        )))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(RealFile(File::open(path)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    #[cfg(unix)]
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    /// Elsewhere directories cannot be synced; NTFS journals its names.
    #[cfg(not(unix))]
    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn lock(&self, dir: &Path) -> io::Result<Result<DirectoryLock, String>> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(dir.join(LOCK_NAME))?;
        let owner = dir.join(OWNER_NAME);
        let taken = || {
            let holder = fs::read_to_string(&owner).unwrap_or_default();
            let known = holder.trim().parse::<u32>().map(|id| format!(" (process {id})"));
            Ok(Err(known.unwrap_or_default()))
        };
        match lock_patiently(&file) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return taken(),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let Ok(directory) = lock_directory(dir)? else {
            return taken();
        };
        // Only for the message that others print, so a full disk must not keep the log closed.
        if let Err(error) = File::create(&owner).and_then(|mut f| writeln!(f, "{}", std::process::id())) {
            tracing::debug!(path = %owner.display(), %error, "cannot note the owner of the log");
        }
        Ok(Ok(Box::new(RealDirectory {
            path: dir.to_owned(),
            directory,
            lock: file,
        })))
    }
}

/// A directory with its two locks. The one on the file is known to every version; the one on the directory itself
/// outlives the removal of that file.
struct RealDirectory {
    path: PathBuf,
    /// `None` where directories cannot be locked.
    directory: Option<File>,
    lock: File,
}

impl HeldDirectory for RealDirectory {
    fn is_in_place(&self) -> io::Result<bool> {
        match &self.directory {
            Some(directory) => names(&self.path, directory),
            // Without the other lock a second process may own the directory as soon as this file is another one.
            None => names(&self.path.join(LOCK_NAME), &self.lock),
        }
    }
}

/// `Err` when another process holds it, `None` where the file system locks no directories (NFS).
#[cfg(unix)]
fn lock_directory(dir: &Path) -> io::Result<Result<Option<File>, ()>> {
    let directory = File::open(dir)?;
    match lock_patiently(&directory) {
        Ok(()) => Ok(Ok(Some(directory))),
        Err(TryLockError::WouldBlock) => Ok(Err(())),
        Err(TryLockError::Error(error)) => {
            tracing::debug!(path = %dir.display(), %error, "the directory of the log cannot be locked, only a file in it");
            Ok(Ok(None))
        }
    }
}

/// Elsewhere a locked file cannot be removed while it is open.
#[cfg(not(unix))]
fn lock_directory(_dir: &Path) -> io::Result<Result<Option<File>, ()>> {
    Ok(Ok(None))
}

/// How often, and how far apart, a lock that somebody holds is asked for: half a second in all. An owner that is just
/// ending lets go within it, and so does a child process that has not yet closed what it inherited.
const LOCK_ATTEMPTS: u32 = 25;
const LOCK_RETRY: Duration = Duration::from_millis(20);

fn lock_patiently(file: &File) -> Result<(), TryLockError> {
    for _ in 1..LOCK_ATTEMPTS {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_RETRY),
            settled => return settled,
        }
    }
    file.try_lock()
}

struct RealFile(File);

impl DiskFile for RealFile {
    #[cfg(unix)]
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, buffer, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(&self.0, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        match std::os::windows::fs::FileExt::seek_read(&self.0, buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read,
        }
    }

    #[cfg(windows)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.0, bytes, offset)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn is_at(&self, path: &Path) -> io::Result<bool> {
        names(path, &self.0)
    }
}
