//! A disk that keeps a guest waiting: nobody else waits with it.
//!
//! The slow disk is a file that somebody else holds by a lease: whoever opens it waits in the kernel
//! until the lease is given back.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;

use wasmorch::runtime::http::Body;
use wasmorch::runtime::spec::{
    HostDirectory, HostDirectoryType, MountSpec, VolumeSource, VolumeSpec,
};

use super::bench::{Bench, Log, container, ended, pod_spec, run, until, within};
use super::guests::{ANSWER, HELLO, WRITE, core, handler};

/// `F_SETSIG` of Linux, which the library does not name.
const SET_SIGNAL: libc::c_int = 10;

/// A file that nobody else gets to open.
struct Held(File);

impl Held {
    fn new(file: File) -> Self {
        let held = Self(file);
        // The usual signal would end the process; this one is ignored.
        held.control(SET_SIGNAL, libc::SIGURG);
        held.control(libc::F_SETLEASE, libc::F_WRLCK);
        held
    }

    fn is_wanted(&self) -> bool {
        self.control(libc::F_GETLEASE, 0) != libc::F_WRLCK
    }

    fn release(self) {
        self.control(libc::F_SETLEASE, libc::F_UNLCK);
    }

    fn control(&self, command: libc::c_int, argument: libc::c_int) -> libc::c_int {
        // SAFETY: these commands take a number, and the descriptor is open.
        let answer = unsafe { libc::fcntl(self.0.as_raw_fd(), command, argument) };
        assert!(answer >= 0, "{}", std::io::Error::last_os_error());
        answer
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn neighbours_are_served_while_a_disk_keeps_a_guest_waiting() {
    let bench = Bench::tuned(|tuning| tuning.guest_threads = 1);
    let directory = bench.dir.path().join("volume");
    std::fs::create_dir(&directory).unwrap();
    let path = directory.join("shared");
    let held = Held::new(File::create(&path).unwrap());
    let mut spec = pod_spec("10.64.0.1");
    let directory = HostDirectory {
        root: directory,
        path: ".".into(),
        expected: HostDirectoryType::Directory,
        capacity: None,
    };
    spec.volumes = vec![VolumeSpec {
        name: "data".to_owned(),
        source: VolumeSource::HostDir {
            directory,
            read_only: false,
        },
    }];
    let (slow, quick) = (
        bench.runtime.create_sandbox(spec).unwrap(),
        bench.pod("10.64.0.2"),
    );
    let mut writer = container("app", &[]);
    writer.mounts = vec![MountSpec {
        volume: "data".to_owned(),
        path: "/tmp".to_owned(),
        sub_path: None,
        read_only: false,
    }];
    assert!(slow.waits_for_disk(&writer) && !quick.waits_for_disk(&container("app", &[])));
    let program = bench.wat(&core(WRITE)).await;
    let start = Arc::clone(&slow).start_on_disk(writer, program, Arc::new(Log::default()));
    let writing = within(start).await.unwrap();
    until("the file is wanted", || held.is_wanted()).await;
    // A command on the only guest thread, and a request on the only thread of this test.
    let hello = bench.wat(&core(HELLO)).await;
    let (_, log) = within(run(&quick, container("hello", &[]), &hello)).await;
    assert_eq!(log.text(), "hello\n");
    let web = bench.wat(&handler(ANSWER)).await;
    let log = Arc::new(Log::default());
    quick.start(container("web", &[]), web, log).unwrap();
    let request = http::Request::get("/").body(Body::empty()).unwrap();
    let answer = within(quick.http_handler(8080).unwrap().call(request)).await;
    assert_eq!(answer.unwrap().status(), 200);
    assert_eq!(writing.exit(), None);
    held.release();
    assert_eq!(ended(&writing).await.code, 0);
    assert_eq!(std::fs::read(path).unwrap(), b"hello\n");
    let used = &slow.stats().containers[0].1;
    assert_eq!(used.memory_bytes, 0, "{used:?}");
}
