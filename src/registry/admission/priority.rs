//! The priority of a new pod: that of its class, or of the default one, as the classes are at that
//! moment. A pod never names the number itself, and one default is all there may be.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::scheduling::v1::PriorityClass;

use super::super::Registry;
use super::super::error::Error;
use super::super::options::Caller;
use super::super::strategy::{self, Draft};
use crate::api::priority::DEFAULT_PREEMPTION;

pub(super) fn mutate_create(registry: &Registry, draft: &mut dyn Draft) -> Result<(), Error> {
    if let Some(class) = strategy::get::<PriorityClass>(draft) {
        return one_default(registry, class);
    }
    let Some(pod) = strategy::get_mut::<Pod>(draft) else {
        return Ok(());
    };
    let name = pod.metadata.name.clone().unwrap_or_default();
    let spec = pod.spec.get_or_insert_default();
    let wanted = spec.priority_class_name.as_deref().unwrap_or_default();
    let classes = registry.api::<PriorityClass>(Caller::system("priority-admission"));
    let class = if wanted.is_empty() {
        let all = classes.list(None)?;
        let defaults = all
            .iter()
            .filter(|class| class.global_default == Some(true));
        // Of several the lowest: the least surprise for those that were there before.
        defaults.min_by_key(|class| class.value).cloned()
    } else {
        let refused = || {
            forbidden(
                &name,
                format!("no PriorityClass with name {wanted} was found"),
            )
        };
        Some(classes.try_get("", wanted)?.ok_or_else(refused)?)
    };
    let class = class.as_deref();
    let value = class.map_or(0, |class| class.value);
    let policy = class.and_then(|class| class.preemption_policy.as_deref());
    let policy = policy.unwrap_or(DEFAULT_PREEMPTION);
    if let Some(given) = spec.priority.filter(|given| *given != value) {
        return Err(forbidden(
            &name,
            format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
            ),
        ));
    }
    if let Some(given) = spec
        .preemption_policy
        .as_deref()
        .filter(|given| *given != policy)
    {
        return Err(forbidden(
            &name,
            format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            ),
        ));
    }
    spec.priority = Some(value);
    spec.preemption_policy = Some(policy.to_owned());
    if let Some(class) = class {
        spec.priority_class_name.clone_from(&class.metadata.name);
    }
    Ok(())
}

/// A class may become the default later, too.
pub(super) fn mutate_update(registry: &Registry, draft: &dyn Draft) -> Result<(), Error> {
    match strategy::get::<PriorityClass>(draft) {
        Some(class) => one_default(registry, class),
        None => Ok(()),
    }
}

fn one_default(registry: &Registry, class: &PriorityClass) -> Result<(), Error> {
    if class.global_default != Some(true) {
        return Ok(());
    }
    let classes = registry.api::<PriorityClass>(Caller::system("priority-admission"));
    let all = classes.list(None)?;
    let other = all.iter().find(|other| {
        other.global_default == Some(true) && other.metadata.name != class.metadata.name
    });
    let Some(other) = other else { return Ok(()) };
    let name = class.metadata.name.clone().unwrap_or_default();
    let other = other.metadata.name.as_deref().unwrap_or_default();
    Err(Error::Forbidden {
        resource: "priorityclasses.scheduling.k8s.io".to_owned(),
        name,
        message: format!(
            "PriorityClass {other:?} is already marked as default. Only one default can exist"
        ),
        cause: None,
    })
}

fn forbidden(pod: &str, message: String) -> Error {
    Error::Forbidden {
        resource: "pods".to_owned(),
        name: pod.to_owned(),
        message,
        cause: None,
    }
}
