//! `-f`: files, folders and stdin as a list of objects.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::failure::{Failure, Result};

#[derive(Args, Clone, Debug, Default)]
pub(super) struct Files {
    /// File, folder or - for stdin; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,

    /// Also the folders in a folder
    #[arg(short = 'R', long)]
    pub(super) recursive: bool,
}

impl Files {
    /// Every object of every file, in order. All files are read before the first object is sent.
    pub(super) fn read(&self) -> Result<Vec<Value>> {
        if self.files.is_empty() {
            return Err(Failure::usage("no manifest is named").help("-f FILE, or -f - for stdin"));
        }
        let mut objects = Vec::new();
        for file in &self.files {
            if file.as_os_str() == "-" {
                objects.extend(parse(&stdin()?, "stdin")?);
                continue;
            }
            if file.to_string_lossy().contains("://") {
                return Err(Failure::usage(format!(
                    "{} is an address, not a file",
                    file.display()
                ))
                .help("curl -sSf ADDRESS | wasmorch apply -f -"));
            }
            for path in self.expand(file)? {
                let text =
                    std::fs::read_to_string(&path).map_err(|error| unreadable(&path, &error))?;
                objects.extend(parse(&text, &path.display().to_string())?);
            }
        }
        if objects.is_empty() {
            return Err(Failure::usage("there is no object in what was given"));
        }
        Ok(objects)
    }

    fn expand(&self, path: &Path) -> Result<Vec<PathBuf>> {
        if !path.is_dir() {
            return Ok(vec![path.to_owned()]);
        }
        let mut entries = std::fs::read_dir(path)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .map_err(|error| unreadable(path, &error))?;
        entries.sort_by_key(std::fs::DirEntry::path);
        let mut files = Vec::new();
        for entry in entries.iter().map(std::fs::DirEntry::path) {
            let extension = entry.extension().and_then(|extension| extension.to_str());
            if entry.is_dir() && self.recursive {
                files.extend(self.expand(&entry)?);
            } else if entry.is_file() && matches!(extension, Some("yaml" | "yml" | "json")) {
                files.push(entry);
            }
        }
        Ok(files)
    }
}

fn stdin() -> Result<String> {
    let mut text = String::new();
    match std::io::stdin().lock().read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(error) => Err(unreadable(Path::new("stdin"), &error)),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("cannot read {}", path.display())).because(error.to_string())
}

/// The documents of a YAML (or JSON) text; a `List` counts as its items.
pub(super) fn parse(text: &str, origin: &str) -> Result<Vec<Value>> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
        Failure::new(
            super::failure::Exit::Failed,
            "W0401",
            format!("{origin} is not valid YAML"),
        )
        .because(error.to_string())
    })?;
    let mut objects = Vec::new();
    for document in documents {
        match document {
            Value::Null => {}
            Value::Object(mut fields) if fields.get("kind").is_some_and(|kind| kind == "List") => {
                let items = fields.remove("items");
                objects.extend(
                    items
                        .and_then(|items| match items {
                            Value::Array(items) => Some(items),
                            _ => None,
                        })
                        .into_iter()
                        .flatten(),
                );
            }
            object => objects.push(object),
        }
    }
    for object in &objects {
        check(object, origin)?;
    }
    Ok(objects)
}

fn check(object: &Value, origin: &str) -> Result {
    let lacks = |field: &str| object[field].as_str().is_none_or(str::is_empty);
    let metadata = &object["metadata"];
    let nameless = ["name", "generateName"]
        .iter()
        .all(|field| metadata[*field].as_str().is_none_or(str::is_empty));
    let missing = match () {
        () if lacks("apiVersion") => "apiVersion",
        () if lacks("kind") => "kind",
        () if nameless => "metadata.name",
        () => return Ok(()),
    };
    Err(Failure::failed(
        "W0401",
        format!("an object in {origin} has no {missing}"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_names(text: &str, expected: &[&str]) {
        let objects = parse(text, "test").unwrap();
        let names: Vec<_> = objects
            .iter()
            .map(|object| object["metadata"]["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, expected);
    }

    #[test]
    fn documents_and_lists_are_objects() {
        let pod = |name: &str| format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n");
        check_names(&pod("a"), &["a"]);
        check_names(
            &format!("---\n{}---\n# nothing\n---\n{}", pod("a"), pod("b")),
            &["a", "b"],
        );
        check_names(
            r#"{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Pod","metadata":{"name":"c"}}]}"#,
            &["c"],
        );
        check_names("", &[]);
    }

    #[test]
    fn what_is_no_object_is_refused_with_its_place() {
        for (text, expected) in [
            ("kind: Pod\nmetadata: {name: a}", "has no apiVersion"),
            ("apiVersion: v1\nmetadata: {name: a}", "has no kind"),
            ("apiVersion: v1\nkind: Pod", "has no metadata.name"),
            ("just text", "has no apiVersion"),
            ("a: [", "not valid YAML"),
            ("a: 1\na: 2", "not valid YAML"),
        ] {
            let failure = parse(text, "app.yaml").unwrap_err().render();
            assert!(failure.contains(expected), "{failure}");
            assert!(failure.contains("app.yaml"), "{failure}");
        }
    }

    #[test]
    fn folders_are_read_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str| {
            let text = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {}}}\n",
                &name[..1]
            );
            std::fs::write(directory.path().join(name), text).unwrap();
        };
        write("b.yaml");
        write("a.yml");
        write("c.txt");
        let files = Files {
            files: vec![directory.path().to_owned()],
            recursive: false,
        };
        let objects = files.read().unwrap();
        let names: Vec<_> = objects
            .iter()
            .map(|object| &object["metadata"]["name"])
            .collect();
        assert_eq!(names, ["a", "b"]);
    }
}
