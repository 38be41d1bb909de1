//! A pod's volumes, from its spec and the objects that were fetched for it.
//!
//! Pure. `emptyDir` lives in the pod's memory; ConfigMap, Secret, downward API and projected
//! volumes are read-only files that [`Volumes::files`] can build again when the objects change;
//! `hostPath` only under directories that the operator allows, and claims where `claims` found
//! them. All else is refused in words.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, HostPathVolumeSource, KeyToPath, Pod, ProjectedVolumeSource, Volume,
};

use super::claims::Claims;
use super::fields::{self, Subject};
use super::objects::{Data, Kind, Objects, References};
use super::tokens::TokenReference;
use crate::api::quantity;
use crate::runtime::spec::{
    HostDirectory, HostDirectoryType, ProjectedFile, VolumeSource, VolumeSpec,
};

/// Why a volume cannot be set up.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("volume `{volume}`: {kind} \"{name}\" not found", kind = .kind.as_str())]
    Missing {
        volume: String,
        kind: Kind,
        name: String,
    },
    #[error("volume `{volume}`: {kind} \"{name}\" has no key `{key}`", kind = .kind.as_str())]
    Key {
        volume: String,
        kind: Kind,
        name: String,
        key: String,
    },
    #[error("volume `{volume}`: `{path}` must be relative and must not contain `..`")]
    Path { volume: String, path: String },
    #[error("volume `{volume}`: persistentvolumeclaim {claim:?} was not found out about")]
    Claim { volume: String, claim: String },
    #[error("volume `{0}`: its token was not asked for")]
    Token(String),
    #[error("volume `{volume}`: {what} is not implemented by wasmorch workers")]
    Unsupported { volume: String, what: &'static str },
    #[error(
        "volume `{volume}`: hostPath `{path}` is not allowed on this worker (start it with --allow-host-path)"
    )]
    HostPath { volume: String, path: String },
    #[error("volume `{volume}`")]
    Field {
        volume: String,
        #[source]
        source: fields::Error,
    },
}

const DEFAULT_MODE: i32 = 0o644;

/// The objects that a pod's volumes need.
pub fn references(pod: &Pod) -> References {
    let mut references = References::new();
    let mut add = |kind, name: Option<&String>| {
        references.extend(name.map(|name| (kind, name.clone())));
    };
    for volume in volumes(pod) {
        if let Some(source) = &volume.config_map {
            add(Kind::ConfigMap, Some(&source.name));
        }
        if let Some(source) = &volume.secret {
            add(Kind::Secret, source.secret_name.as_ref());
        }
        let projected = volume.projected.iter().flat_map(|it| &it.sources);
        for source in projected.flatten() {
            add(
                Kind::ConfigMap,
                source.config_map.as_ref().map(|it| &it.name),
            );
            add(Kind::Secret, source.secret.as_ref().map(|it| &it.name));
        }
    }
    references
}

/// Builds the volumes of a pod.
pub fn build(
    subject: &Subject<'_>,
    objects: &Objects,
    claims: &Claims,
    allowed_host_paths: &[PathBuf],
) -> Result<Vec<VolumeSpec>, Error> {
    volumes(subject.pod)
        .map(|volume| {
            Ok(VolumeSpec {
                name: volume.name.clone(),
                source: source(volume, subject, (objects, claims), allowed_host_paths)?,
            })
        })
        .collect()
}

/// The files of every volume that follows an object; for comparing and replacing.
pub fn files(
    subject: &Subject<'_>,
    objects: &Objects,
) -> Result<Vec<(String, Vec<ProjectedFile>)>, Error> {
    let mut all = Vec::new();
    for volume in volumes(subject.pod) {
        if let Some(files) = projected_files(volume, subject, objects)? {
            all.push((volume.name.clone(), files));
        }
    }
    Ok(all)
}

fn volumes(pod: &Pod) -> impl Iterator<Item = &Volume> {
    let spec = pod.spec.iter();
    spec.flat_map(|spec| spec.volumes.iter().flatten())
}

fn source(
    volume: &Volume,
    subject: &Subject<'_>,
    (objects, claims): (&Objects, &Claims),
    allowed_host_paths: &[PathBuf],
) -> Result<VolumeSource, Error> {
    if let Some(files) = projected_files(volume, subject, objects)? {
        return Ok(VolumeSource::Files(files));
    }
    if let Some(empty) = &volume.empty_dir {
        let size_limit = empty.size_limit.as_ref().map(quantity::units_or_zero);
        return Ok(VolumeSource::Empty {
            size_limit: size_limit.filter(|limit| *limit > 0),
            is_memory: empty.medium.as_deref() == Some("Memory"),
        });
    }
    if let Some(host_path) = &volume.host_path {
        return host_directory(volume, host_path, allowed_host_paths);
    }
    if let Some(source) = &volume.persistent_volume_claim {
        let claimed = claims.get(&source.claim_name).ok_or_else(|| Error::Claim {
            volume: volume.name.clone(),
            claim: source.claim_name.clone(),
        })?;
        return Ok(VolumeSource::HostDir {
            directory: claimed.directory.clone(),
            read_only: claimed.read_only || source.read_only == Some(true),
        });
    }
    let what = if volume.csi.is_some() {
        "csi"
    } else if volume.image.is_some() {
        "image"
    } else if volume.ephemeral.is_some() {
        "ephemeral"
    } else {
        "this volume source"
    };
    Err(Error::Unsupported {
        volume: volume.name.clone(),
        what,
    })
}

fn host_directory(
    volume: &Volume,
    host_path: &HostPathVolumeSource,
    allowed: &[PathBuf],
) -> Result<VolumeSource, Error> {
    let path = Path::new(&host_path.path);
    let Some((root, path)) = self::allowed(path, allowed) else {
        return Err(Error::HostPath {
            volume: volume.name.clone(),
            path: host_path.path.clone(),
        });
    };
    let expected = host_type(host_path.type_.as_deref()).ok_or_else(|| Error::Unsupported {
        volume: volume.name.clone(),
        what: "a hostPath of a type other than Directory, DirectoryOrCreate, File and FileOrCreate",
    })?;
    Ok(VolumeSource::HostDir {
        directory: HostDirectory {
            root,
            path,
            expected,
            capacity: None,
        },
        read_only: false,
    })
}

/// The part of the host that the operator allows, and the way to `path` from there.
pub(super) fn allowed(path: &Path, allowed: &[PathBuf]) -> Option<(PathBuf, PathBuf)> {
    if path.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    allowed.iter().find_map(|root| {
        let below = path.strip_prefix(root).ok()?;
        Some((root.clone(), below.to_owned()))
    })
}

/// What Kubernetes' word for it asks for; devices and sockets are nothing for a sandbox.
pub(super) fn host_type(text: Option<&str>) -> Option<HostDirectoryType> {
    match text {
        None | Some("") => Some(HostDirectoryType::Any),
        Some("Directory") => Some(HostDirectoryType::Directory),
        Some("DirectoryOrCreate") => Some(HostDirectoryType::DirectoryOrCreate),
        Some("File") => Some(HostDirectoryType::File),
        Some("FileOrCreate") => Some(HostDirectoryType::FileOrCreate),
        Some(_) => None,
    }
}

fn projected_files(
    volume: &Volume,
    subject: &Subject<'_>,
    objects: &Objects,
) -> Result<Option<Vec<ProjectedFile>>, Error> {
    let mut files = Files {
        volume: &volume.name,
        objects,
        subject,
        list: BTreeMap::new(),
    };
    if let Some(it) = &volume.config_map {
        let mode = it.default_mode.unwrap_or(DEFAULT_MODE);
        let object = (Kind::ConfigMap, it.name.as_str(), it.optional);
        files.add_object(object, it.items.as_deref(), mode)?;
    } else if let Some(it) = &volume.secret {
        let mode = it.default_mode.unwrap_or(DEFAULT_MODE);
        let name = it.secret_name.as_deref().unwrap_or_default();
        files.add_object((Kind::Secret, name, it.optional), it.items.as_deref(), mode)?;
    } else if let Some(it) = &volume.downward_api {
        let mode = it.default_mode.unwrap_or(DEFAULT_MODE);
        files.add_downward(it.items.as_deref().unwrap_or_default(), mode)?;
    } else if let Some(it) = &volume.projected {
        files.add_projected(it)?;
    } else {
        return Ok(None);
    }
    Ok(Some(files.list.into_values().collect()))
}

struct Files<'a> {
    volume: &'a str,
    objects: &'a Objects,
    subject: &'a Subject<'a>,
    /// By path.
    list: BTreeMap<String, ProjectedFile>,
}

impl Files<'_> {
    fn add_projected(&mut self, volume: &ProjectedVolumeSource) -> Result<(), Error> {
        let mode = volume.default_mode.unwrap_or(DEFAULT_MODE);
        for source in volume.sources.iter().flatten() {
            if let Some(it) = &source.config_map {
                let object = (Kind::ConfigMap, it.name.as_str(), it.optional);
                self.add_object(object, it.items.as_deref(), mode)?;
            } else if let Some(it) = &source.secret {
                let object = (Kind::Secret, it.name.as_str(), it.optional);
                self.add_object(object, it.items.as_deref(), mode)?;
            } else if let Some(it) = &source.downward_api {
                self.add_downward(it.items.as_deref().unwrap_or_default(), mode)?;
            } else if let Some(it) = &source.service_account_token {
                let reference = TokenReference {
                    audience: it.audience.clone().unwrap_or_default(),
                    seconds: it.expiration_seconds.unwrap_or(3600),
                };
                let token = self.objects.tokens.get(&reference);
                let token = token.ok_or_else(|| Error::Token(self.volume.to_owned()))?;
                self.push(&it.path, token.clone(), mode)?;
            } else {
                return Err(Error::Unsupported {
                    volume: self.volume.to_owned(),
                    what: "a projection other than configMap, secret, downwardAPI and serviceAccountToken",
                });
            }
        }
        Ok(())
    }

    fn add_object(
        &mut self,
        (kind, name, optional): (Kind, &str, Option<bool>),
        items: Option<&[KeyToPath]>,
        mode: i32,
    ) -> Result<(), Error> {
        let empty = Data::new();
        let is_optional = optional == Some(true);
        let data = match self.objects.get(kind, name) {
            Some(data) => data,
            None if is_optional => &empty,
            None => {
                return Err(Error::Missing {
                    volume: self.volume.to_owned(),
                    kind,
                    name: name.to_owned(),
                });
            }
        };
        let Some(items) = items else {
            for (key, contents) in data {
                self.push(key, contents.clone(), mode)?;
            }
            return Ok(());
        };
        for item in items {
            match data.get(&item.key) {
                Some(contents) => {
                    self.push(&item.path, contents.clone(), item.mode.unwrap_or(mode))?;
                }
                None if is_optional => {}
                None => {
                    return Err(Error::Key {
                        volume: self.volume.to_owned(),
                        kind,
                        name: name.to_owned(),
                        key: item.key.clone(),
                    });
                }
            }
        }
        Ok(())
    }

    fn add_downward(&mut self, items: &[DownwardAPIVolumeFile], mode: i32) -> Result<(), Error> {
        for item in items {
            let field = item.field_ref.as_ref();
            let resource = item.resource_field_ref.as_ref();
            let value = match (field, resource) {
                (Some(selector), _) => fields::field(selector, self.subject),
                (None, Some(selector)) => fields::resource(selector, None, self.subject),
                (None, None) => Ok(String::new()),
            };
            let value = value.map_err(|source| Error::Field {
                volume: self.volume.to_owned(),
                source,
            })?;
            self.push(&item.path, Bytes::from(value), item.mode.unwrap_or(mode))?;
        }
        Ok(())
    }

    /// A later file of the same path wins, as in Kubernetes' projections.
    fn push(&mut self, path: &str, contents: Bytes, mode: i32) -> Result<(), Error> {
        let mut parts = Path::new(path).components();
        if path.is_empty() || !parts.all(|part| matches!(part, Component::Normal(_))) {
            return Err(Error::Path {
                volume: self.volume.to_owned(),
                path: path.to_owned(),
            });
        }
        let file = ProjectedFile {
            path: path.to_owned(),
            contents,
            mode: u32::try_from(mode).unwrap_or(0o644) & 0o777,
        };
        self.list.insert(file.path.clone(), file);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
