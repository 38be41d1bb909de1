//! The pod's filesystem against the kernel's tmpfs: the same lines on both, the same outcomes.
//!
//! Left out on purpose is what WASI does not have (modes, owners, devices) and where its sandbox
//! differs from a directory: absolute targets of links, and `..` above the root.

mod random;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::fs::{self, AtFlags, Mode, OFlags};
use wasmorch::runtime::fs::descriptor::{OpenOptions, Synchronized};
use wasmorch::runtime::fs::errno::Errno;
use wasmorch::runtime::fs::inode::{Kind, NewTime};
use wasmorch::runtime::fs::{Descriptor, Root};

/// What a line leads to: a value, or the number of an error.
type Outcome = Result<String, i32>;

struct Kernel {
    root: rustix::fd::OwnedFd,
    open: HashMap<String, rustix::fd::OwnedFd>,
    _dir: tempfile::TempDir,
}

impl Kernel {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        Self {
            root: fs::open(dir.path(), flags, Mode::empty()).unwrap(),
            open: HashMap::new(),
            _dir: dir,
        }
    }

    fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<rustix::fd::OwnedFd> {
        fs::openat(&self.root, path, flags, Mode::from_raw_mode(0o644))
    }

    fn apply(&mut self, words: &[&str]) -> rustix::io::Result<String> {
        let root = &self.root;
        match *words {
            ["mkdir", path] => fs::mkdirat(root, path, Mode::from_raw_mode(0o755))?,
            ["rmdir", path] => fs::unlinkat(root, path, AtFlags::REMOVEDIR)?,
            ["unlink", path] => fs::unlinkat(root, path, AtFlags::empty())?,
            ["rename", from, to] => fs::renameat(root, from, root, to)?,
            ["link", from, to] => fs::linkat(root, from, root, to, AtFlags::empty())?,
            ["symlink", target, path] => fs::symlinkat(target, root, path)?,
            ["readlink", path] => {
                let target = fs::readlinkat(root, path, Vec::new())?;
                return Ok(target.into_string().unwrap());
            }
            ["make", path] => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                drop(self.open(path, flags)?);
            }
            ["write", path, text] => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
                rustix::io::write(self.open(path, flags)?, text.as_bytes())?;
            }
            ["poke", path, at, text] => {
                let file = self.open(path, OFlags::WRONLY)?;
                rustix::io::pwrite(file, text.as_bytes(), at.parse().unwrap())?;
            }
            ["truncate", path, length] => {
                fs::ftruncate(self.open(path, OFlags::WRONLY)?, length.parse().unwrap())?;
            }
            ["read", path] => return read(&self.open(path, OFlags::RDONLY)?),
            ["list", path] => {
                let directory = self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
                let entries = fs::Dir::read_from(directory)?;
                let names =
                    entries.map(|it| it.unwrap().file_name().to_string_lossy().into_owned());
                return Ok(sorted(names.filter(|it| it != "." && it != "..")));
            }
            ["stat", path] => return self.stat(path, AtFlags::SYMLINK_NOFOLLOW),
            ["follow", path] => return self.stat(path, AtFlags::empty()),
            ["hold", name, path] => {
                let file = self.open(path, OFlags::RDWR)?;
                self.open.insert(name.to_owned(), file);
            }
            ["held", name] => return read(&self.open[name]),
            ["open", name, path, flags] => {
                let file = self.open(path, open_flags(flags))?;
                self.open.insert(name.to_owned(), file);
            }
            ["close", name] => drop(self.open.remove(name)),
            ["touch", path, seconds] => {
                let stamp = |tv_sec, tv_nsec| fs::Timespec { tv_sec, tv_nsec };
                let times = fs::Timestamps {
                    last_access: stamp(0, fs::UTIME_OMIT),
                    last_modification: stamp(seconds.parse().unwrap(), 0),
                };
                fs::utimensat(root, path, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            ["age", path] => {
                let stat = fs::statat(root, path, AtFlags::SYMLINK_NOFOLLOW)?;
                return Ok(age(stat.st_mtime));
            }
            [operation, name, ..] => match self.open.get(name) {
                Some(file) => return Self::on_open(file, operation, &words[2..]),
                None => return Ok("closed".to_owned()),
            },
            _ => panic!("{words:?}"),
        }
        Ok(String::new())
    }

    fn on_open(
        file: &rustix::fd::OwnedFd,
        operation: &str,
        words: &[&str],
    ) -> rustix::io::Result<String> {
        match (operation, words) {
            ("pwrite", [at, text]) => {
                let written = rustix::io::pwrite(file, text.as_bytes(), at.parse().unwrap())?;
                return Ok(written.to_string());
            }
            ("append", [text]) => {
                // Fails for what is no file, and so does writing.
                let _ = fs::seek(file, fs::SeekFrom::End(0));
                return Ok(rustix::io::write(file, text.as_bytes())?.to_string());
            }
            ("pread", [at]) => {
                let mut buffer = [0; 100];
                let length = rustix::io::pread(file, &mut buffer, at.parse().unwrap())?;
                return Ok(format!("{:?}", String::from_utf8_lossy(&buffer[..length])));
            }
            ("resize", [length]) => fs::ftruncate(file, length.parse().unwrap())?,
            ("size", []) => {
                let stat = fs::fstat(file)?;
                return Ok(match fs::FileType::from_raw_mode(stat.st_mode) {
                    fs::FileType::Directory => "directory".to_owned(),
                    _ => format!("{} with {} names", stat.st_size, stat.st_nlink),
                });
            }
            ("names", []) => {
                let entries = match fs::Dir::read_from(file) {
                    Ok(entries) => entries.collect::<Result<Vec<_>, _>>()?,
                    // What was removed is empty to POSIX, and gone to Linux.
                    Err(rustix::io::Errno::NOENT) => Vec::new(),
                    Err(error) => return Err(error),
                };
                let names = entries.iter().map(|it| it.file_name().to_string_lossy());
                let names = names.map(std::borrow::Cow::into_owned);
                return Ok(sorted(names.filter(|it| it != "." && it != "..")));
            }
            _ => panic!("{operation} {words:?}"),
        }
        Ok(String::new())
    }

    fn stat(&self, path: &str, flags: AtFlags) -> rustix::io::Result<String> {
        let stat = fs::statat(&self.root, path, flags)?;
        Ok(match fs::FileType::from_raw_mode(stat.st_mode) {
            fs::FileType::Directory => "directory".to_owned(),
            fs::FileType::Symlink => format!("link of {}", stat.st_size),
            _ => format!("file of {} with {} names", stat.st_size, stat.st_nlink),
        })
    }
}

/// The letters of [`options`].
fn open_flags(letters: &str) -> OFlags {
    let has = |letter| letters.contains(letter);
    let mut flags = match (has('r'), has('w')) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (_, false) => OFlags::RDONLY,
    };
    flags.set(OFlags::CREATE, has('c'));
    flags.set(OFlags::EXCL, has('x'));
    flags.set(OFlags::TRUNC, has('t'));
    flags.set(OFlags::DIRECTORY, has('d'));
    flags.set(OFlags::NOFOLLOW, has('n'));
    flags
}

/// `r`ead, `w`rite, `c`reate, e`x`clusive, `t`runcate, `d`irectory, `n`ofollow.
fn options(letters: &str) -> OpenOptions {
    let has = |letter| letters.contains(letter);
    OpenOptions {
        follow: !has('n'),
        create: has('c'),
        exclusive: has('x'),
        truncate: has('t'),
        directory: has('d'),
        read: has('r'),
        write: has('w'),
        ..READ
    }
}

/// A time that was set, or that the clock gave.
fn age(seconds: i64) -> String {
    match seconds {
        0..1_000_000 => seconds.to_string(),
        _ => "new".to_owned(),
    }
}

fn read(file: &rustix::fd::OwnedFd) -> rustix::io::Result<String> {
    let mut buffer = [0; 100];
    let length = rustix::io::pread(file, &mut buffer, 0)?;
    Ok(format!("{:?}", String::from_utf8_lossy(&buffer[..length])))
}

fn sorted(names: impl Iterator<Item = String>) -> String {
    let mut names: Vec<String> = names.collect();
    names.sort();
    names.join(" ")
}

struct Ours {
    root: Arc<Root>,
    open: HashMap<String, Descriptor>,
}

const READ: OpenOptions = OpenOptions {
    follow: true,
    create: false,
    exclusive: false,
    truncate: false,
    directory: false,
    read: true,
    write: false,
    mutate: false,
    synchronized: Synchronized {
        data: false,
        file: false,
        reads: false,
    },
};
const WRITE: OpenOptions = OpenOptions {
    read: false,
    write: true,
    ..READ
};

impl Ours {
    fn new() -> Self {
        Self {
            root: super::root(),
            open: HashMap::new(),
        }
    }

    fn apply(&mut self, words: &[&str]) -> Result<String, Errno> {
        let root = self.root.open().open_at("tmp", READ)?;
        match *words {
            ["mkdir", path] => root.create_directory_at(path)?,
            ["rmdir", path] => root.remove_directory_at(path)?,
            ["unlink", path] => root.unlink_at(path)?,
            ["rename", from, to] => root.rename_at(from, &root, to)?,
            ["link", from, to] => root.link_at(from, &root, to)?,
            ["symlink", target, path] => root.symlink_at(target, path)?,
            ["readlink", path] => return root.read_link_at(path),
            ["make", path] => {
                let options = OpenOptions {
                    create: true,
                    exclusive: true,
                    ..WRITE
                };
                root.open_at(path, options)?;
            }
            ["write", path, text] => {
                let options = OpenOptions {
                    create: true,
                    truncate: true,
                    ..WRITE
                };
                root.open_at(path, options)?
                    .write_at(0, &[text.as_bytes()])?;
            }
            ["poke", path, at, text] => {
                let at = at.parse().unwrap();
                root.open_at(path, WRITE)?
                    .write_at(at, &[text.as_bytes()])?;
            }
            ["truncate", path, length] => {
                root.open_at(path, WRITE)?
                    .set_len(length.parse().unwrap())?;
            }
            ["read", path] => return Self::read(&root.open_at(path, READ)?),
            ["list", path] => {
                let options = OpenOptions {
                    directory: true,
                    ..READ
                };
                let entries = root.open_at(path, options)?.list(0, 1000)?;
                return Ok(sorted(entries.iter().map(|entry| entry.name.to_string())));
            }
            ["stat", path] => return Self::stat(&root, path, false),
            ["follow", path] => return Self::stat(&root, path, true),
            ["hold", name, path] => {
                let options = OpenOptions {
                    write: true,
                    ..READ
                };
                let file = root.open_at(path, options)?;
                self.open.insert(name.to_owned(), file);
            }
            ["held", name] => return Self::read(&self.open[name]),
            ["open", name, path, letters] => {
                let file = root.open_at(path, options(letters))?;
                self.open.insert(name.to_owned(), file);
            }
            ["close", name] => drop(self.open.remove(name)),
            ["touch", path, seconds] => {
                let at = Duration::from_secs(seconds.parse().unwrap());
                let at = NewTime::At(SystemTime::UNIX_EPOCH + at);
                root.set_times_at(path, false, NewTime::Keep, at)?;
            }
            ["age", path] => {
                let modified = root.stat_at(path, false)?.times.modified;
                let since = modified.duration_since(SystemTime::UNIX_EPOCH).unwrap();
                return Ok(age(since.as_secs() as i64));
            }
            [operation, name, ..] => match self.open.get(name) {
                Some(file) => return Self::on_open(file, operation, &words[2..]),
                None => return Ok("closed".to_owned()),
            },
            _ => panic!("{words:?}"),
        }
        Ok(String::new())
    }

    fn on_open(file: &Descriptor, operation: &str, words: &[&str]) -> Result<String, Errno> {
        match (operation, words) {
            ("pwrite", [at, text]) => {
                let written = file.write_at(at.parse().unwrap(), &[text.as_bytes()])?;
                return Ok(written.to_string());
            }
            ("append", [text]) => return Ok(file.append(&[text.as_bytes()])?.0.to_string()),
            ("pread", [at]) => {
                let mut buffer = [0; 100];
                let length = file.read_at(at.parse().unwrap(), &mut buffer)?;
                return Ok(format!("{:?}", String::from_utf8_lossy(&buffer[..length])));
            }
            ("resize", [length]) => file.set_len(length.parse().unwrap())?,
            ("size", []) => {
                let stat = file.stat()?;
                return Ok(match stat.kind {
                    Kind::Directory => "directory".to_owned(),
                    _ => format!("{} with {} names", stat.size, stat.links),
                });
            }
            ("names", []) => {
                let entries = file.list(0, 1000)?;
                return Ok(sorted(entries.iter().map(|entry| entry.name.to_string())));
            }
            _ => panic!("{operation} {words:?}"),
        }
        Ok(String::new())
    }

    fn read(file: &Descriptor) -> Result<String, Errno> {
        let mut buffer = [0; 100];
        let length = file.read_at(0, &mut buffer)?;
        Ok(format!("{:?}", String::from_utf8_lossy(&buffer[..length])))
    }

    fn stat(root: &Descriptor, path: &str, follow: bool) -> Result<String, Errno> {
        let stat = root.stat_at(path, follow)?;
        Ok(match stat.kind {
            Kind::Directory => "directory".to_owned(),
            Kind::Symlink => format!("link of {}", stat.size),
            Kind::File => format!("file of {} with {} names", stat.size, stat.links),
        })
    }
}

/// Linux' number.
fn number(errno: Errno) -> i32 {
    use rustix::io::Errno as Linux;
    let linux = match errno {
        Errno::BadDescriptor => Linux::BADF,
        Errno::Busy => Linux::BUSY,
        Errno::Exist => Linux::EXIST,
        Errno::FileTooLarge => Linux::FBIG,
        Errno::Invalid => Linux::INVAL,
        Errno::IsDirectory => Linux::ISDIR,
        Errno::Loop => Linux::LOOP,
        Errno::NameTooLong => Linux::NAMETOOLONG,
        Errno::NoEntry => Linux::NOENT,
        Errno::NotDirectory => Linux::NOTDIR,
        Errno::NotEmpty => Linux::NOTEMPTY,
        Errno::NotPermitted => Linux::PERM,
        other => panic!("unexpected: {other:?}"),
    };
    linux.raw_os_error()
}

fn check(program: &str) {
    let (mut kernel, mut ours) = (Kernel::new(), Ours::new());
    let long = "n".repeat(256);
    let mut different = Vec::new();
    for line in program.lines().map(str::trim).filter(|it| !it.is_empty()) {
        let line = line.replace("LONG", &long);
        let words: Vec<&str> = line.split(' ').collect();
        let expected: Outcome = kernel
            .apply(&words)
            .map_err(rustix::io::Errno::raw_os_error);
        let got: Outcome = ours.apply(&words).map_err(number);
        if got != expected {
            different.push(format!("`{line}` gives {got:?}, on tmpfs {expected:?}"));
        }
    }
    assert!(different.is_empty(), "{program}: {different:#?}");
}

#[test]
fn file_programs_behave_as_on_tmpfs() {
    let programs = [
        // Files.
        "write f hello\nread f\nstat f\nwrite f bye\nread f\npoke f 5 there\nread f\ntruncate f 2
         read f\ntruncate f 4\nread f\nmake f\nmake g\nstat g\nread none\npoke none 0 x
         truncate none 1\nread f/x\nwrite f/x y\nmake LONG\nread LONG",
        // Directories.
        "mkdir d\nmkdir d\nmkdir e/f\nlist d\nmake d/a\nmake d/b\nlist d\nrmdir d\nunlink d\nunlink d/a
         rmdir d/b\nunlink d/b\nrmdir d\nrmdir d\nlist d\nwrite x y\nlist x\nrmdir x\nmkdir x\nmkdir x/y",
        // Renaming.
        "write a one\nwrite b two\nrename a b\nread b\nread a\nrename none c\nmkdir d\nrename b d\nrename d b
         mkdir e\nrename d e\nstat d\nmkdir d\nmake d/x\nrename e d\nrename d e\nlist e\nrename e e/x
         rename e e\nrename b b\nread b\nrename b e/b\nlist e\nrename e/b none/b",
        // Names of one file.
        "write a x\nlink a b\nstat a\nwrite b yy\nread a\nunlink a\nstat b\nread b\nlink b b\nlink none c
         mkdir d\nlink d e\nlink b d/b\nstat b\nrename b d/b\nstat b\nstat d/b\nlink b d",
        // Links.
        "symlink f l\nstat l\nfollow l\nread l\nreadlink l\nwrite l text\nread f\nfollow l\nunlink l\nread f
         symlink f l\nmake l\nsymlink x l\nreadlink f\nsymlink l m\nread m\nmkdir d\nsymlink d k\nmake k/a
         list d\nlist k\nrmdir k\nrename l k2\nreadlink k2\nsymlink loop loop\nread loop\nfollow loop
         stat loop\nmake loop/x\nsymlink ../d d/up\nlist d/up\nlink k2 hard\nstat hard\nunlink k\nlist d",
        // Open files outlive their names.
        "write f one\nhold h f\nunlink f\nheld h\nwrite f two\nheld h\nread f\nrename f g\nheld h
         write g three\nhold i g\nwrite f four\nrename f g\nheld i\nread g\ntruncate g 0\nread g\nhold j none",
        // Odd paths.
        "mkdir d\nmake d/\nmake d/.\nmake .\nmake n/\nwrite d/ x\nwrite n/ x\nwrite . x\nwrite g x
         make g/\nwrite g/ x\nsymlink d k\nmake k/\nwrite k/ x\nunlink k\nmkdir e/\nstat e/\nwrite d/f x\nstat d/f/\nread ./d/../d/f\nlist d/.\nrmdir d/.
         unlink d/..\nrename d/. e\nmkdir .\nmkdir d/..\nrmdir e/\nstat e\nstat d//f",
    ];
    for program in programs {
        check(program);
    }
}
