//! Compiled code on disk: found by digest and fingerprint, written whole, sealed.
//!
//! Loading compiled code is as trusting as running a native program, so a file is loaded only if
//! this worker wrote it: beside each `<digest>.<fingerprint>.cwasm` lies a `.seal` with an
//! HMAC-SHA-256 over what it is and what it contains, under a random key that stays in the cache
//! directory (`key`, readable by its owner alone). A seal that does not fit means a damaged or a
//! foreign file; both are deleted and compiled anew.
//!
//! The code is written and synced first, then the seal, both under temporary names and renamed. A
//! crash in between leaves code without a seal, which does not count.
//!
//! Workers of one machine and one user may share a directory: they trust one another's seals because
//! they share the key, a lock for each digest lets one of them compile while the others wait, and
//! mapped code is then in memory once.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::component::Program;
use super::engine::Flavor;
use crate::api::image::Digest;

const SEAL_VERSION: &str = "v1";
const BLOCK: usize = 64;

/// The cache directory with its key.
pub(super) struct Cache {
    dir: PathBuf,
    key: [u8; BLOCK],
}

/// Compiled code that may be loaded.
#[derive(Debug)]
pub(super) struct Cached {
    pub(super) program: Program,
    pub(super) code: PathBuf,
}

/// The right to compile one digest, until it is dropped or the process ends.
#[derive(Debug)]
pub(super) struct CompileLock {
    path: PathBuf,
    _file: File,
}

impl Drop for CompileLock {
    fn drop(&mut self) {
        // Who waits for this very file gets the right of a name that is gone, and finds the code. Who
        // comes later makes a new one. At worst two compile the same, and the later result stays.
        let _ = fs::remove_file(&self.path);
    }
}

impl Cache {
    /// Opens the directory, made if it is missing, and its key, made at the first start.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let path = dir.join("key");
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_key(dir, &path)?,
            read => read?,
        };
        if text.is_empty() {
            let message = format!("{} is empty; delete the directory", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        let mut key = [0; BLOCK];
        let length = text.len().min(BLOCK);
        key[..length].copy_from_slice(&text[..length]);
        Ok(Self {
            dir: dir.to_owned(),
            key,
        })
    }

    /// Where a compiler may write; the name is unique, and swept away if it is left behind.
    pub(super) fn scratch(&self) -> io::Result<tempfile::TempPath> {
        Ok(tempfile::Builder::new()
            .prefix("compiling-")
            .tempfile_in(&self.dir)?
            .into_temp_path())
    }

    /// Waits until nobody else compiles that digest into this directory; blocks the thread.
    pub(super) fn lock(&self, digest: &Digest) -> io::Result<CompileLock> {
        let path = self.dir.join(format!("{}.lock", digest.hex()));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        file.lock()?;
        Ok(CompileLock { path, _file: file })
    }

    /// The code of that digest, if its seal fits; damaged files are removed.
    pub(super) fn find(
        &self,
        digest: &Digest,
        flavor: Flavor,
        fingerprint: &str,
    ) -> io::Result<Option<Cached>> {
        let seal = match fs::read_to_string(self.seal_path(digest, fingerprint)) {
            Ok(seal) => seal,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
            Err(error) => return Err(error),
        };
        let code = self.code_path(digest, fingerprint);
        for program in Program::ALL {
            if program.engine().flavor() == flavor
                && seal.split(' ').nth(1) == Some(program.name())
                && let Ok(hash) = hash_file(&code)
                && seal == self.seal(digest, fingerprint, program, &hash)
            {
                return Ok(Some(Cached { program, code }));
            }
        }
        tracing::warn!(%digest, "compiled code is damaged or not ours; compiling anew");
        self.remove(digest, fingerprint)?;
        Ok(None)
    }

    /// Takes over what a compiler wrote to `scratch`.
    pub(super) fn insert(
        &self,
        digest: &Digest,
        fingerprint: &str,
        program: Program,
        scratch: tempfile::TempPath,
    ) -> io::Result<Cached> {
        File::open(&scratch)?.sync_all()?;
        let hash = hash_file(&scratch)?;
        let code = self.code_path(digest, fingerprint);
        scratch.persist(&code).map_err(|error| error.error)?;
        let mut seal = tempfile::NamedTempFile::new_in(&self.dir)?;
        seal.write_all(self.seal(digest, fingerprint, program, &hash).as_bytes())?;
        seal.as_file().sync_all()?;
        seal.persist(self.seal_path(digest, fingerprint))
            .map_err(|error| error.error)?;
        File::open(&self.dir)?.sync_all()?;
        Ok(Cached { program, code })
    }

    /// Forgets the code of that digest.
    pub(super) fn remove(&self, digest: &Digest, fingerprint: &str) -> io::Result<()> {
        for path in [
            self.seal_path(digest, fingerprint),
            self.code_path(digest, fingerprint),
        ] {
            match fs::remove_file(path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn seal(&self, digest: &Digest, fingerprint: &str, program: Program, hash: &Digest) -> String {
        let program = program.name();
        let claim = format!(
            "{SEAL_VERSION} {program} {digest} {fingerprint} {}",
            hash.hex()
        );
        let mac = Digest::from_sha256(&hmac_sha256(&self.key, claim.as_bytes()));
        format!("{SEAL_VERSION} {program} {}", mac.hex())
    }

    fn code_path(&self, digest: &Digest, fingerprint: &str) -> PathBuf {
        self.dir
            .join(format!("{}.{fingerprint}.cwasm", digest.hex()))
    }

    fn seal_path(&self, digest: &Digest, fingerprint: &str) -> PathBuf {
        self.dir
            .join(format!("{}.{fingerprint}.seal", digest.hex()))
    }
}

fn make_key(dir: &Path, path: &Path) -> io::Result<Vec<u8>> {
    let mut file = tempfile::Builder::new().make_in(dir, |path| {
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
    })?;
    let key = crate::ids::secret().into_bytes();
    file.write_all(&key)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(key),
        // Another worker was faster; its key is everybody's.
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => fs::read(path),
        Err(error) => Err(error.error),
    }
}

fn hash_file(path: &Path) -> io::Result<Digest> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Digest::from_sha256(&hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

fn hmac_sha256(key: &[u8; BLOCK], message: &[u8]) -> [u8; 32] {
    let padded = |pad: u8| key.map(|byte| byte ^ pad);
    let inner = Sha256::new()
        .chain_update(padded(0x36))
        .chain_update(message)
        .finalize();
    Sha256::new()
        .chain_update(padded(0x5c))
        .chain_update(inner)
        .finalize()
        .into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const FINGERPRINT: &str = "concurrent-1";

    fn insert(cache: &Cache, digest: &Digest) -> Cached {
        let scratch = cache.scratch().unwrap();
        fs::write(&scratch, b"machine code").unwrap();
        cache
            .insert(digest, FINGERPRINT, Program::Command2, scratch)
            .unwrap()
    }

    fn find(cache: &Cache, digest: &Digest) -> Option<Cached> {
        cache.find(digest, Flavor::Concurrent, FINGERPRINT).unwrap()
    }

    #[test]
    fn what_was_inserted_is_found_also_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"a");
        insert(&Cache::open(dir.path()).unwrap(), &digest);
        let cache = Cache::open(dir.path()).unwrap();
        let cached = find(&cache, &digest).unwrap();
        assert_eq!(cached.program, Program::Command2);
        assert_eq!(fs::read(cached.code).unwrap(), b"machine code");
        assert!(find(&cache, &Digest::of(b"b")).is_none());
        let key = fs::metadata(dir.path().join("key")).unwrap();
        assert_eq!(key.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_a_renamed_and_a_foreign_file_are_not_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        let (first, second) = (Digest::of(b"a"), Digest::of(b"b"));
        let cached = insert(&cache, &first);
        fs::write(&cached.code, b"machine cod3").unwrap();
        assert!(find(&cache, &first).is_none());
        assert!(!cached.code.exists(), "damaged code is removed");

        insert(&cache, &first);
        for extension in ["cwasm", "seal"] {
            let name = |digest: &Digest| {
                dir.path()
                    .join(format!("{}.{FINGERPRINT}.{extension}", digest.hex()))
            };
            fs::copy(name(&first), name(&second)).unwrap();
        }
        assert!(find(&cache, &second).is_none());

        let other = tempfile::tempdir().unwrap();
        let foreign = Cache::open(other.path()).unwrap();
        assert!(find(&cache, &first).is_some());
        fs::copy(other.path().join("key"), dir.path().join("key")).unwrap();
        drop(foreign);
        assert!(find(&Cache::open(dir.path()).unwrap(), &first).is_none());
    }

    #[test]
    fn workers_that_share_a_directory_share_its_key_and_compile_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"a");
        let caches: Vec<Cache> = std::thread::scope(|scope| {
            let opening = (0..8).map(|_| scope.spawn(|| Cache::open(dir.path()).unwrap()));
            let opening: Vec<_> = opening.collect();
            opening.into_iter().map(|it| it.join().unwrap()).collect()
        });
        insert(&caches[0], &digest);
        assert!(caches.iter().all(|cache| find(cache, &digest).is_some()));

        let held = caches[0].lock(&digest).unwrap();
        caches[1].lock(&Digest::of(b"b")).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| caches[1].lock(&digest).unwrap());
            assert!(!waiting.is_finished());
            drop(held);
            waiting.join().unwrap();
        });
    }

    #[test]
    fn the_mac_is_hmac_sha256() {
        let mut key = [0; BLOCK];
        key[..4].copy_from_slice(b"Jefe");
        let mac = hmac_sha256(&key, b"what do ya want for nothing?");
        assert_eq!(
            Digest::from_sha256(&mac).hex(),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
