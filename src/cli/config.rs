//! Which server is meant: the kubeconfig file and the context in it.
//!
//! `--kubeconfig` (or `$WASMORCH_CONFIG`), else the dev cluster of this folder, else the user's own
//! file. `~/.kube/config` and `$KUBECONFIG` are never read on their own: one wrong context there
//! turns `wasmorch delete` into an incident. A context that is named explicitly is looked for in
//! both of the implicit files.

use std::path::{Path, PathBuf};

use kube::config::{KubeConfigOptions, Kubeconfig};

use super::failure::{Failure, Result};
use super::global::Global;

/// The file of a dev cluster that runs in this folder.
const DEV: &str = ".wasmorch/kubeconfig";

/// A server, as far as the files tell.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    pub(super) context: String,
}

impl Place {
    /// `context "dev" from ./.wasmorch/kubeconfig`
    pub(super) fn describe(&self) -> String {
        format!("context {:?} from {}", self.context, self.file.display())
    }
}

/// The files that are looked into, in order; the flag makes it one.
pub(super) fn candidates(explicit: Option<&Path>) -> Vec<PathBuf> {
    let user = user_file(
        std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from),
        std::env::home_dir(),
    );
    match explicit {
        Some(file) => vec![file.to_owned()],
        None => std::iter::once(PathBuf::from(DEV)).chain(user).collect(),
    }
}

fn user_file(config_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let directory = config_home
        .filter(|path| path.is_absolute())
        .or_else(|| home.map(|home| home.join(".config")))?;
    Some(directory.join("wasmorch").join("config.yaml"))
}

/// The bearer token of a context.
pub(super) fn token(place: &Place, kubeconfig: &Kubeconfig) -> Option<String> {
    let contexts = &kubeconfig.contexts;
    let context = contexts
        .iter()
        .find(|context| context.name == place.context)?;
    let user = context.context.as_ref()?.user.as_ref()?;
    let users = &kubeconfig.auth_infos;
    let user = users.iter().find(|candidate| candidate.name == *user)?;
    let token = user.auth_info.as_ref()?.token.as_ref()?;
    Some(secrecy::ExposeSecret::expose_secret(token).to_owned())
}

/// The file and context to use, and what the file says.
pub(super) fn find(global: &Global) -> Result<(Place, Kubeconfig)> {
    let candidates = candidates(global.kubeconfig.as_deref());
    let mut contexts = Vec::new();
    for file in &candidates {
        if !file.exists() && global.kubeconfig.is_none() {
            continue;
        }
        let kubeconfig = read(file)?;
        let known = |name: &str| {
            kubeconfig
                .contexts
                .iter()
                .any(|context| context.name == name)
        };
        let context = global
            .context
            .clone()
            .or_else(|| kubeconfig.current_context.clone())
            .unwrap_or_default();
        if known(&context) {
            let place = Place {
                file: file.clone(),
                context,
            };
            return Ok((place, kubeconfig));
        }
        contexts.extend(
            kubeconfig
                .contexts
                .iter()
                .map(|context| context.name.clone()),
        );
    }
    Err(missing(global, &candidates, &contexts))
}

fn read(file: &Path) -> Result<Kubeconfig> {
    Kubeconfig::read_from(file).map_err(|error| {
        Failure::usage(format!("cannot read {}", file.display())).because(error.to_string())
    })
}

fn missing(global: &Global, candidates: &[PathBuf], contexts: &[String]) -> Failure {
    let files: Vec<String> = candidates
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let files = files.join(" or ");
    match &global.context {
        Some(context) if contexts.is_empty() => {
            Failure::usage(format!("there is no context {context:?} in {files}"))
        }
        Some(context) => Failure::usage(format!("there is no context {context:?}"))
            .help(format!("contexts: {}", contexts.join(", "))),
        None if contexts.is_empty() => {
            Failure::usage(format!("no cluster is known: no file {files}"))
                .help("start one here: wasmorch dev")
        }
        None => Failure::usage("no context is the current one")
            .help(format!("name one with --context: {}", contexts.join(", "))),
    }
}

/// The client's configuration for a place.
pub(super) async fn client_config(place: &Place, kubeconfig: Kubeconfig) -> Result<kube::Config> {
    let options = KubeConfigOptions {
        context: Some(place.context.clone()),
        ..KubeConfigOptions::default()
    };
    let wrong = |error: &dyn std::error::Error| {
        Failure::usage(format!("cannot use {}", place.describe())).because(error.to_string())
    };
    kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(directory: &Path, context: Option<&str>) -> Global {
        Global {
            kubeconfig: Some(directory.join("config")),
            context: context.map(str::to_owned),
            ..Global::default()
        }
    }

    #[test]
    fn the_context_is_the_named_one_or_the_current_one() {
        let directory = tempfile::tempdir().unwrap();
        let text = "current-context: one\ncontexts:\n- name: one\n  context: {cluster: c, user: u}\n\
                    - name: two\n  context: {cluster: c, user: u}\n";
        std::fs::write(directory.path().join("config"), text).unwrap();
        let found =
            |context| find(&global(directory.path(), context)).map(|(place, _)| place.context);
        assert_eq!(found(None).unwrap(), "one");
        assert_eq!(found(Some("two")).unwrap(), "two");
        let missing = found(Some("three")).unwrap_err();
        assert!(missing.render().contains("contexts: one, two"));
    }

    #[test]
    fn the_users_file_follows_the_xdg_rule() {
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(
            user_file(None, path("/h")),
            path("/h/.config/wasmorch/config.yaml")
        );
        assert_eq!(
            user_file(path("/x"), path("/h")),
            path("/x/wasmorch/config.yaml")
        );
        assert_eq!(
            user_file(path("relative"), path("/h")),
            path("/h/.config/wasmorch/config.yaml")
        );
        assert_eq!(user_file(None, None), None);
    }
}
