//! A container's environment: services, `envFrom`, `env`, in Kubernetes' order of precedence.
//!
//! Pure: the ConfigMaps and Secrets were fetched before ([`references`] says which).

use std::collections::HashMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource};

use super::expand::{Budget, TooLarge, expand};
use super::fields::{self, Subject};
use super::objects::{Kind, Objects, References};
use crate::api::names;

/// A Service that pods are told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceLink {
    pub name: String,
    pub cluster_ip: IpAddr,
    /// Name (may be empty), number, protocol.
    pub ports: Vec<(String, u16, String)>,
}

/// Why there is no environment; the texts are Kubernetes'.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("{kind} \"{name}\" not found", kind = .kind.as_str())]
    Missing { kind: Kind, name: String },
    #[error("couldn't find key {key} in {kind} {namespace}/{name}", kind = .kind.as_str())]
    Key {
        kind: Kind,
        namespace: String,
        name: String,
        key: String,
    },
    #[error("env `{0}`: the value is not UTF-8")]
    NotText(String),
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    #[error("env `{0}`: valueFrom.fileKeyRef is not implemented")]
    FileKey(String),
    #[error("env `{name}`")]
    Field {
        name: String,
        #[source]
        source: fields::Error,
    },
}

/// The objects that a container's environment needs.
pub fn references(container: &Container, into: &mut References) {
    for source in container.env_from.iter().flatten() {
        let config_map = source.config_map_ref.as_ref();
        into.extend(config_map.map(|it| (Kind::ConfigMap, it.name.clone())));
        let secret = source.secret_ref.as_ref();
        into.extend(secret.map(|it| (Kind::Secret, it.name.clone())));
    }
    for source in container
        .env
        .iter()
        .flatten()
        .filter_map(|it| it.value_from.as_ref())
    {
        let config_map = source.config_map_key_ref.as_ref();
        into.extend(config_map.map(|it| (Kind::ConfigMap, it.name.clone())));
        let secret = source.secret_key_ref.as_ref();
        into.extend(secret.map(|it| (Kind::Secret, it.name.clone())));
    }
}

/// Variables in the order in which their names came first.
#[derive(Debug, Default)]
pub struct Variables {
    list: Vec<(String, String)>,
    index: HashMap<String, usize>,
}

impl Variables {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        let index = self.index.get(name)?;
        Some(&self.list[*index].1)
    }

    /// Sets a variable; a later value takes the place of an earlier one.
    pub fn put(&mut self, name: String, value: String) {
        if let Some(index) = self.index.get(&name) {
            self.list[*index].1 = value;
        } else {
            self.index.insert(name.clone(), self.list.len());
            self.list.push((name, value));
        }
    }

    /// Names and values in order.
    pub fn into_list(self) -> Vec<(String, String)> {
        self.list
    }
}

/// Builds the environment.
pub fn build(
    container: &Container,
    subject: &Subject<'_>,
    objects: &Objects,
    services: &[ServiceLink],
    budget: &mut Budget,
) -> Result<Variables, Error> {
    let links = service_variables(services);
    let mut env = Variables::default();
    add_env_from(container, objects, &mut env, budget)?;
    for variable in container.env.iter().flatten() {
        let value = match &variable.value_from {
            None => {
                let text = variable.value.as_deref().unwrap_or_default();
                let value_of = |name: &str| env.get(name).or_else(|| links.get(name));
                Some(expand(text, value_of, budget)?)
            }
            Some(source) => {
                let value = value_from(variable, source, (container, subject), objects)?;
                budget.charge(value.as_ref().map_or(0, String::len))?;
                value
            }
        };
        if let Some(value) = value {
            env.put(variable.name.clone(), value);
        }
    }
    for (name, value) in links.list {
        if env.get(&name).is_none() {
            env.put(name, value);
        }
    }
    Ok(env)
}

/// The whole argv: `command` and `args` with the container's variables, the module's name as the
/// program's where no command is written.
pub fn argv(
    container: &Container,
    module: &str,
    env: &Variables,
    budget: &mut Budget,
) -> Result<Vec<String>, TooLarge> {
    let program = match container.command.as_deref() {
        None | Some([]) => Some(module.to_owned()),
        Some(_) => None,
    };
    let written = container.command.iter().chain(&container.args).flatten();
    let written = written.map(|text| expand(text, |name| env.get(name), budget));
    program.map(Ok).into_iter().chain(written).collect()
}

fn add_env_from(
    container: &Container,
    objects: &Objects,
    env: &mut Variables,
    budget: &mut Budget,
) -> Result<(), Error> {
    for source in container.env_from.iter().flatten() {
        let prefix = source.prefix.as_deref().unwrap_or_default();
        let config_map = source.config_map_ref.as_ref();
        let secret = source.secret_ref.as_ref();
        let wanted = config_map
            .map(|it| (Kind::ConfigMap, &it.name, it.optional))
            .into_iter()
            .chain(secret.map(|it| (Kind::Secret, &it.name, it.optional)));
        for (kind, name, optional) in wanted {
            let Some(data) = objects.get(kind, name) else {
                if optional == Some(true) {
                    continue;
                }
                let name = name.clone();
                return Err(Error::Missing { kind, name });
            };
            for (key, value) in data {
                let name = format!("{prefix}{key}");
                // Kubernetes skips keys that cannot name a variable.
                if names::is_env_name(&name) {
                    budget.charge(name.len() + value.len())?;
                    let value = String::from_utf8(value.to_vec());
                    env.put(name.clone(), value.map_err(|_| Error::NotText(name))?);
                }
            }
        }
    }
    Ok(())
}

fn value_from(
    variable: &EnvVar,
    source: &EnvVarSource,
    (container, subject): (&Container, &Subject<'_>),
    objects: &Objects,
) -> Result<Option<String>, Error> {
    let failed = |source| Error::Field {
        name: variable.name.clone(),
        source,
    };
    if let Some(selector) = &source.field_ref {
        return fields::field(selector, subject).map(Some).map_err(failed);
    }
    if let Some(selector) = &source.resource_field_ref {
        let value = fields::resource(selector, Some(container), subject);
        return value.map(Some).map_err(failed);
    }
    if source.file_key_ref.is_some() {
        return Err(Error::FileKey(variable.name.clone()));
    }
    let config_map = source.config_map_key_ref.as_ref();
    let secret = source.secret_key_ref.as_ref();
    let (kind, name, key, optional) = match (config_map, secret) {
        (Some(it), _) => (Kind::ConfigMap, &it.name, &it.key, it.optional),
        (None, Some(it)) => (Kind::Secret, &it.name, &it.key, it.optional),
        (None, None) => return Ok(Some(String::new())),
    };
    let is_optional = optional == Some(true);
    let Some(data) = objects.get(kind, name) else {
        let name = name.clone();
        return if is_optional {
            Ok(None)
        } else {
            Err(Error::Missing { kind, name })
        };
    };
    match data.get(key) {
        Some(value) => String::from_utf8(value.to_vec())
            .map(Some)
            .map_err(|_| Error::NotText(variable.name.clone())),
        None if is_optional => Ok(None),
        None => Err(Error::Key {
            kind,
            namespace: subject.pod.metadata.namespace.clone().unwrap_or_default(),
            name: name.clone(),
            key: key.clone(),
        }),
    }
}

/// `HELLO_SERVICE_HOST`, `HELLO_SERVICE_PORT`, `HELLO_SERVICE_PORT_<NAME>` and the older
/// `HELLO_PORT_80_TCP…` family.
fn service_variables(services: &[ServiceLink]) -> Variables {
    let mut variables = Variables::default();
    for service in services {
        let upper = |text: &str| text.to_uppercase().replace('-', "_");
        let name = upper(&service.name);
        let ip = service.cluster_ip;
        variables.put(format!("{name}_SERVICE_HOST"), ip.to_string());
        for (index, (port_name, port, protocol)) in service.ports.iter().enumerate() {
            let scheme = protocol.to_lowercase();
            let url = format!("{scheme}://{ip}:{port}");
            if index == 0 {
                variables.put(format!("{name}_SERVICE_PORT"), port.to_string());
                variables.put(format!("{name}_PORT"), url.clone());
            }
            if !port_name.is_empty() {
                let variable = format!("{name}_SERVICE_PORT_{}", upper(port_name));
                variables.put(variable, port.to_string());
            }
            let prefix = format!("{name}_PORT_{port}_{}", protocol.to_uppercase());
            variables.put(format!("{prefix}_PROTO"), scheme);
            variables.put(format!("{prefix}_PORT"), port.to_string());
            variables.put(format!("{prefix}_ADDR"), ip.to_string());
            variables.put(prefix, url);
        }
    }
    variables
}

#[cfg(test)]
mod tests;
