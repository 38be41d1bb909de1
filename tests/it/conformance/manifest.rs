//! What a test says of itself: the `.json` beside its `.wasm`, in either form of wasi-testsuite.
//!
//! The older form is a flat object, the newer a list of operations; both become operations. A
//! directory without a `manifest.json` is one of *plain* programs: each starts in an empty directory
//! of its own, which it is given as `.` and told as its only argument, and shall succeed. A `.json`
//! beside a plain program changes that, and may say what wasi-testsuite does not know: `files`
//! (contents by absolute path), the pod's `annotations`, the container's `tty` and `read_only_root`,
//! and `not_applicable` (why no pod can run it).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The directory that a plain program starts in.
pub(super) const SCRATCH: &str = "/scratch";

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Flat {
    args: Option<Vec<String>>,
    env: BTreeMap<String, String>,
    root: Option<String>,
    dirs: Vec<String>,
    exit_code: i32,
    stdout: Option<String>,
    stderr: Option<String>,
    /// `null` is the root.
    cwd: Option<String>,
    files: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    tty: bool,
    read_only_root: bool,
    not_applicable: Option<String>,
    // The newer form.
    operations: Option<Vec<Operation>>,
    servers: Vec<Server>,
    /// A pod has all that they ask for.
    #[serde(rename = "proposals")]
    _proposals: Vec<String>,
    /// The program's exports say it.
    #[serde(rename = "world")]
    _world: Option<String>,
}

#[derive(Clone, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Operation {
    Run {
        #[serde(default)]
        args: Vec<String>,
        #[serde(default)]
        env: BTreeMap<String, String>,
        root: Option<String>,
    },
    Wait {
        #[serde(default)]
        exit_code: i32,
    },
    Read {
        #[serde(default = "stdout")]
        id: String,
        #[serde(default)]
        payload: String,
    },
    /// To the program's standard input, the only thing that can be written to.
    Write {
        #[serde(default)]
        payload: String,
    },
    /// Ends the program's standard input, or a connection.
    Close {
        #[serde(default = "stdin")]
        id: String,
    },
    Connect {
        #[serde(default = "server")]
        id: String,
        #[serde(default = "tcp")]
        protocol_type: String,
    },
    Send {
        id: String,
        #[serde(default)]
        payload: String,
    },
    Recv {
        id: String,
        #[serde(default)]
        payload: String,
    },
    Request(Request),
    Kill {},
}

#[derive(Clone, Deserialize)]
pub(super) struct Request {
    #[serde(default = "get")]
    pub(super) method: String,
    #[serde(default = "slash")]
    pub(super) path: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) body: String,
    #[serde(default)]
    pub(super) response: Response,
}

/// An answer: expected of the program, or given to it by a server.
#[derive(Clone, Deserialize)]
#[serde(default)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    /// `null` is any, where an answer is expected.
    pub(super) body: Option<String>,
    pub(super) chunks: Option<Vec<String>>,
    pub(super) trailers: BTreeMap<String, String>,
}

impl Default for Response {
    fn default() -> Self {
        Self {
            status: 200,
            headers: BTreeMap::new(),
            body: Some(String::new()),
            chunks: None,
            trailers: BTreeMap::new(),
        }
    }
}

/// A server that the program may call; its address is in an environment variable.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Server {
    pub(super) name: String,
    #[serde(default)]
    pub(super) kind: ServerKind,
    #[serde(default)]
    pub(super) endpoints: Vec<Endpoint>,
    /// The variable's name, where it is not `HTTP_SERVER_<NAME>`.
    env: Option<String>,
}

impl Server {
    pub(super) fn variable(&self) -> String {
        let usual = || format!("HTTP_SERVER_{}", self.name.to_uppercase());
        self.env.clone().unwrap_or_else(usual)
    }
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum ServerKind {
    #[default]
    Listening,
    Closed,
    /// Speaks HTTP/2 and nothing else.
    Http2,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Endpoint {
    /// `*` is any.
    #[serde(default = "get")]
    pub(super) method: String,
    /// `*` is any.
    #[serde(default = "slash")]
    pub(super) path: String,
    #[serde(default)]
    pub(super) response: Response,
    #[serde(default)]
    pub(super) mode: Mode,
    /// With `echo-body`: response headers that tell the request's method and target.
    pub(super) method_header: Option<String>,
    pub(super) target_header: Option<String>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Mode {
    #[default]
    Static,
    EchoBody,
    EchoHeaders,
}

fn stdin() -> String {
    "stdin".to_owned()
}
fn stdout() -> String {
    "stdout".to_owned()
}
fn server() -> String {
    "server".to_owned()
}
fn tcp() -> String {
    "tcp".to_owned()
}
fn get() -> String {
    "GET".to_owned()
}
fn slash() -> String {
    "/".to_owned()
}

/// One test, ready to be performed.
#[derive(Default)]
pub(super) struct Manifest {
    /// The program's name as it is started.
    pub(super) argv0: String,
    pub(super) operations: Vec<Operation>,
    pub(super) servers: Vec<Server>,
    pub(super) working_dir: Option<String>,
    /// Directories to be mounted, by the name that the test uses.
    pub(super) dirs: Vec<String>,
    pub(super) files: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) tty: bool,
    pub(super) read_only_root: bool,
    /// Where the test's own files are.
    pub(super) home: PathBuf,
    not_applicable: Option<String>,
}

impl Manifest {
    /// Reads what stands beside `program`.
    pub(super) fn of(program: &Path) -> Result<Self, String> {
        let home = program.parent().unwrap().to_owned();
        let is_plain = !home.join("manifest.json").exists();
        let json = program.with_extension("json");
        let mut flat: Flat = match std::fs::read(&json) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| format!("{}: {error}", json.display()))?,
            Err(_) => Flat::default(),
        };
        let args = flat.args.take();
        let (argv0, args) = if is_plain {
            let stem = program.file_stem().unwrap().to_string_lossy().into_owned();
            flat.cwd.get_or_insert_with(|| SCRATCH.to_owned());
            (stem, args.unwrap_or_else(|| vec![".".to_owned()]))
        } else {
            let name = program.file_name().unwrap().to_string_lossy().into_owned();
            (name, args.unwrap_or_default())
        };
        let operations = if let Some(mut operations) = flat.operations.take() {
            for operation in &mut operations {
                if let (Operation::Run { args: own, .. }, true) = (operation, is_plain)
                    && own.is_empty()
                {
                    own.clone_from(&args);
                }
            }
            operations
        } else {
            let reads = [("stdout", flat.stdout), ("stderr", flat.stderr)];
            let reads = reads.into_iter().filter_map(|(id, payload)| {
                Some(Operation::Read {
                    id: id.to_owned(),
                    payload: payload?,
                })
            });
            let run = Operation::Run {
                args,
                env: flat.env,
                root: flat.root,
            };
            let wait = Operation::Wait {
                exit_code: flat.exit_code,
            };
            std::iter::once(run).chain(reads).chain([wait]).collect()
        };
        Ok(Self {
            argv0,
            operations,
            servers: flat.servers,
            working_dir: flat.cwd.filter(|path| path != "/"),
            dirs: flat.dirs,
            files: flat.files,
            annotations: flat.annotations,
            tty: flat.tty,
            read_only_root: flat.read_only_root,
            home,
            not_applicable: flat.not_applicable,
        })
    }

    /// Why no pod can run it.
    pub(super) fn not_applicable(&self) -> Option<String> {
        self.not_applicable.clone()
    }

    /// Whether somebody sends the program its standard input; else its container has `stdin: false`.
    pub(super) fn has_stdin(&self) -> bool {
        let sends = |operation: &Operation| match operation {
            Operation::Write { .. } => true,
            Operation::Close { id } => id == "stdin",
            _ => false,
        };
        self.operations.iter().any(sends)
    }
}
