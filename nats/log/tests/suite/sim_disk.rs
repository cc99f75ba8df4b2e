//! A disk in memory that crashes, tears, reorders, fails and fills up, from a seed. Knows nothing of logs.
//!
//! What it may do is what file systems may do: until a file is synced, any of its writes can be lost, kept in part or
//! kept in another order; until a directory is synced, any change of its names can be lost; a failed sync leaves any of
//! this behind and later syncs do not make up for it.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use watchfold_log::disk::{DirectoryLock, Disk, DiskFile};

/// What tears: smaller than a sector, so that small tests tear too.
const SECTOR_BYTES: usize = 64;

/// SplitMix64: small, seeded, good enough to vary faults.
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn chance(&mut self, per_thousand: u64) -> bool {
        self.below(1000) < per_thousand
    }
}

#[derive(Clone)]
enum FileOp {
    Write(u64, Vec<u8>),
    SetLen(u64),
}

#[derive(Clone, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<FileOp>,
}

#[derive(Clone)]
enum NameOp {
    Link(String, u64),
    Unlink(String),
    Rename(String, String, u64),
}

#[derive(Clone, Default)]
struct Dir {
    current: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    pending: Vec<NameOp>,
}

struct State {
    rng: Rng,
    inodes: HashMap<u64, Inode>,
    dirs: BTreeMap<PathBuf, Dir>,
    next_inode: u64,
    /// Names ever linked, with whether they may be linked again.
    segment_names: std::collections::HashSet<PathBuf>,
    faults: Faults,
    steps: u64,
    crashed: bool,
    /// Handles of earlier lives are dead.
    life: u64,
}

/// What goes wrong. Rates are per thousand changing operations.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Crash at this changing operation, counted from the disk's making.
    pub crash_at: Option<u64>,
    pub write_error: u64,
    pub sync_error: u64,
    pub name_error: u64,
    pub short_write: u64,
    pub capacity: Option<u64>,
}

pub struct SimDisk(Mutex<State>);

impl SimDisk {
    pub fn new(seed: u64) -> Arc<SimDisk> {
        Arc::new(SimDisk(Mutex::new(State {
            rng: Rng(seed),
            inodes: HashMap::new(),
            dirs: BTreeMap::new(),
            next_inode: 1,
            segment_names: std::collections::HashSet::new(),
            faults: Faults::default(),
            steps: 0,
            crashed: false,
            life: 0,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn set_faults(&self, faults: Faults) {
        self.state().faults = faults;
    }

    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    pub fn has_crashed(&self) -> bool {
        self.state().crashed
    }

    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// The process dies; the operating system lives on.
    pub fn kill(&self) {
        let mut state = self.state();
        state.life += 1;
        state.crashed = false;
    }

    /// The power goes: back to the last syncs, with any of what came after them.
    pub fn cut_power(&self) {
        let mut state = self.state();
        state.life += 1;
        state.crashed = false;
        let keep = [0, 1000, 500, 900, 100][state.rng.below(5) as usize];
        let ids: Vec<u64> = {
            let mut ids: Vec<u64> = state.inodes.keys().copied().collect();
            ids.sort_unstable();
            ids
        };
        for id in ids {
            let State { rng, inodes, .. } = &mut *state;
            let inode = inodes.get_mut(&id).unwrap();
            inode.lose_unsynced(rng, keep);
        }
        let State { rng, dirs, .. } = &mut *state;
        for dir in dirs.values_mut() {
            dir.lose_unsynced(rng, keep);
        }
        let linked: std::collections::HashSet<u64> = state
            .dirs
            .values()
            .flat_map(|dir| dir.current.values().copied())
            .collect();
        state.inodes.retain(|id, _| linked.contains(id));
    }
}

impl Inode {
    fn apply(content: &mut Vec<u8>, op: &FileOp) {
        match op {
            FileOp::Write(offset, bytes) => {
                let (start, end) = (*offset as usize, *offset as usize + bytes.len());
                if content.len() < end {
                    content.resize(end, 0);
                }
                content[start..end].copy_from_slice(bytes);
            }
            FileOp::SetLen(bytes) => content.resize(*bytes as usize, 0),
        }
    }

    /// Settles what reached the disk of what no sync covered.
    fn settle(&mut self, rng: &mut Rng, keep: u64) {
        let mut parts = Vec::new();
        for op in self.pending.drain(..) {
            match op {
                FileOp::Write(offset, bytes) if keep < 1000 => {
                    for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                        parts.push(FileOp::Write(
                            offset + (index * SECTOR_BYTES) as u64,
                            sector.to_vec(),
                        ));
                    }
                }
                op => parts.push(op),
            }
        }
        if keep < 1000 && rng.chance(500) {
            for at in (1..parts.len()).rev() {
                parts.swap(at, rng.below(at as u64 + 1) as usize);
            }
        }
        for part in parts {
            if rng.below(1000) < keep {
                Inode::apply(&mut self.durable, &part);
            }
        }
    }

    fn lose_unsynced(&mut self, rng: &mut Rng, keep: u64) {
        self.settle(rng, keep);
        self.current = self.durable.clone();
    }
}

impl Dir {
    fn apply(names: &mut BTreeMap<String, u64>, op: &NameOp) {
        match op {
            NameOp::Link(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            NameOp::Unlink(name) => {
                names.remove(name);
            }
            NameOp::Rename(from, to, inode) => {
                names.remove(from);
                names.insert(to.clone(), *inode);
            }
        }
    }

    fn settle(&mut self, rng: &mut Rng, keep: u64) {
        for op in std::mem::take(&mut self.pending) {
            if rng.below(1000) < keep {
                Dir::apply(&mut self.durable, &op);
            }
        }
    }

    fn lose_unsynced(&mut self, rng: &mut Rng, keep: u64) {
        self.settle(rng, keep);
        self.current = self.durable.clone();
    }
}

fn crashed() -> io::Error {
    io::Error::other("simulated crash")
}

fn failed() -> io::Error {
    io::Error::other("simulated failure")
}

impl State {
    fn used_bytes(&self) -> u64 {
        let linked = self.dirs.values().flat_map(|dir| dir.current.values());
        linked
            .filter_map(|id| self.inodes.get(id))
            .map(|inode| inode.current.len() as u64)
            .sum()
    }

    /// Counts a changing operation. True if this one crashes: then half of the time it still happens.
    fn step(&mut self) -> io::Result<bool> {
        if self.crashed {
            return Err(crashed());
        }
        self.steps += 1;
        if self.faults.crash_at == Some(self.steps) {
            self.crashed = true;
            return if self.rng.chance(500) {
                Err(crashed())
            } else {
                Ok(true)
            };
        }
        Ok(false)
    }

    fn after<T>(&self, crashes: bool, value: T) -> io::Result<T> {
        if crashes { Err(crashed()) } else { Ok(value) }
    }

    fn dir(&mut self, path: &Path) -> io::Result<(&mut Dir, String)> {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let dir = self
            .dirs
            .get_mut(path.parent().unwrap())
            .ok_or(io::ErrorKind::NotFound)?;
        Ok((dir, name))
    }

    fn change_name(
        &mut self,
        path: &Path,
        op: impl FnOnce(&mut Dir, String) -> io::Result<NameOp>,
    ) -> io::Result<()> {
        let crashes = self.step()?;
        let rate = self.faults.name_error;
        if self.rng.chance(rate) {
            return Err(failed());
        }
        let (dir, name) = self.dir(path)?;
        let op = op(dir, name)?;
        Dir::apply(&mut dir.current, &op);
        dir.pending.push(op);
        self.after(crashes, ())
    }
}

impl SimDisk {
    fn handle(self: &Arc<SimDisk>, state: &State, inode: u64) -> Arc<dyn DiskFile> {
        Arc::new(SimFile {
            disk: self.clone(),
            inode,
            life: state.life,
        })
    }
}

/// `Disk` needs `Arc` to hand out files.
pub struct SharedDisk(pub Arc<SimDisk>);

impl Disk for SharedDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.state().dirs.entry(path.to_owned()).or_default();
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let state = self.0.state();
        if state.crashed {
            return Err(crashed());
        }
        Ok(state
            .dirs
            .get(path)
            .ok_or(io::ErrorKind::NotFound)?
            .current
            .keys()
            .cloned()
            .collect())
    }

    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.state();
        assert!(
            !state.segment_names.contains(path),
            "a file name was reused: {}",
            path.display()
        );
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.change_name(path, |dir, name| {
            if dir.current.contains_key(&name) {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(NameOp::Link(name, inode))
        })?;
        state.segment_names.insert(path.to_owned());
        Ok(self.0.handle(&state, inode))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.state();
        let known = state
            .dir(path)
            .ok()
            .and_then(|(dir, name)| dir.current.get(&name).copied());
        if let Some(inode) = known {
            let crashes = state.step()?;
            let file = state.inodes.get_mut(&inode).unwrap();
            file.current.clear();
            file.pending.push(FileOp::SetLen(0));
            let handle = self.0.handle(&state, inode);
            return state.after(crashes, handle);
        }
        let inode = state.next_inode;
        state.next_inode += 1;
        state.inodes.insert(inode, Inode::default());
        state.change_name(path, |_, name| Ok(NameOp::Link(name, inode)))?;
        Ok(self.0.handle(&state, inode))
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.0.state();
        if state.crashed {
            return Err(crashed());
        }
        let (dir, name) = state.dir(path)?;
        let inode = *dir.current.get(&name).ok_or(io::ErrorKind::NotFound)?;
        Ok(self.0.handle(&state, inode))
    }

    fn open_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let target = to.file_name().unwrap().to_string_lossy().into_owned();
        self.0.state().change_name(from, |dir, name| {
            let inode = *dir.current.get(&name).ok_or(io::ErrorKind::NotFound)?;
            Ok(NameOp::Rename(name, target, inode))
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.state().change_name(path, |dir, name| {
            dir.current.get(&name).ok_or(io::ErrorKind::NotFound)?;
            Ok(NameOp::Unlink(name))
        })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.state();
        let crashes = state.step()?;
        let fails = {
            let rate = state.faults.sync_error;
            state.rng.chance(rate)
        };
        let State { rng, dirs, .. } = &mut *state;
        let dir = dirs.get_mut(path).ok_or(io::ErrorKind::NotFound)?;
        if fails {
            // Unlike with file content, later syncs of a directory do try again.
            for op in dir.pending.clone() {
                if rng.chance(500) {
                    Dir::apply(&mut dir.durable, &op);
                }
            }
            return Err(failed());
        }
        dir.durable = dir.current.clone();
        dir.pending.clear();
        state.after(crashes, ())
    }

    fn lock(&self, _dir: &Path) -> io::Result<Result<DirectoryLock, String>> {
        Ok(Ok(Box::new(())))
    }
}

struct SimFile {
    disk: Arc<SimDisk>,
    inode: u64,
    life: u64,
}

impl SimFile {
    fn state(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.disk.state();
        if state.life != self.life || state.crashed {
            Err(crashed())
        } else {
            Ok(state)
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.state()?;
        let content = &state.inodes[&self.inode].current;
        let from = (offset as usize).min(content.len());
        let count = buffer.len().min(content.len() - from);
        buffer[..count].copy_from_slice(&content[from..from + count]);
        Ok(count)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.state()?;
        let crashes = state.step()?;
        let faults = state.faults;
        let grows =
            (offset + bytes.len() as u64).saturating_sub(state.inodes[&self.inode].current.len() as u64);
        let room = faults
            .capacity
            .map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used_bytes()));
        let error = if grows > room {
            Some(io::ErrorKind::StorageFull.into())
        } else if state.rng.chance(faults.write_error) {
            Some(failed())
        } else {
            None
        };
        let is_short = state.rng.chance(faults.short_write) && bytes.len() > 1;
        let count = match &error {
            Some(_) => state.rng.below((bytes.len() as u64).min(room) + 1) as usize,
            None if is_short || crashes => 1 + state.rng.below(bytes.len() as u64) as usize,
            None => bytes.len(),
        };
        let op = FileOp::Write(offset, bytes[..count].to_vec());
        let inode = state.inodes.get_mut(&self.inode).unwrap();
        Inode::apply(&mut inode.current, &op);
        inode.pending.push(op);
        match error {
            Some(error) => Err(error),
            None => state.after(crashes, count),
        }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.state()?;
        let crashes = state.step()?;
        let rate = state.faults.write_error;
        if state.rng.chance(rate) {
            return Err(failed());
        }
        let inode = state.inodes.get_mut(&self.inode).unwrap();
        Inode::apply(&mut inode.current, &FileOp::SetLen(bytes));
        inode.pending.push(FileOp::SetLen(bytes));
        state.after(crashes, ())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.state()?.inodes[&self.inode].current.len() as u64)
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state()?;
        let crashes = state.step()?;
        let fails = {
            let rate = state.faults.sync_error;
            state.rng.chance(rate)
        };
        let State { rng, inodes, .. } = &mut *state;
        let inode = inodes.get_mut(&self.inode).unwrap();
        if fails {
            // What did not reach the disk is dropped from the list of what has to, yet still read from the cache.
            let keep = rng.below(1001);
            let lengths = inode
                .pending
                .iter()
                .filter(|op| matches!(op, FileOp::SetLen(_)))
                .cloned()
                .collect();
            inode.settle(rng, keep);
            // Lengths are the file system's own notes, which it does try again.
            inode.pending = lengths;
            return Err(failed());
        }
        for op in std::mem::take(&mut inode.pending) {
            Inode::apply(&mut inode.durable, &op);
        }
        state.after(crashes, ())
    }
}
