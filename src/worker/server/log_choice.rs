//! Which run of a container a log is asked of, judged by its status, as the kubelet does it: the
//! one that runs, else the last that ended; the one before it only when that is asked for.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod, PodStatus};

use crate::worker::context::PodView;
use crate::worker::status::incarnation;

/// The incarnation to read, or why there is no log.
pub(super) fn choose(view: &PodView, container: &str, previous: bool) -> Result<u32, String> {
    let said = view.status.as_deref();
    let pod = &view.pod;
    of_status(pod, said.or(pod.status.as_ref()), container, previous)
}

fn of_status(
    pod: &Pod,
    status: Option<&PodStatus>,
    container: &str,
    previous: bool,
) -> Result<u32, String> {
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    let subject = format!("container \"{container}\" in pod \"{pod}\"");
    let Some(status) = status.and_then(|status| named(status, container)) else {
        return Err(format!("{subject} is not available"));
    };
    let ended = |state: &Option<ContainerState>| {
        let ended = state.as_ref()?.terminated.as_ref()?;
        incarnation(ended.container_id.as_deref()?)
    };
    let last = ended(&status.last_state);
    if previous {
        return last.ok_or_else(|| format!("previous terminated {subject} not found"));
    }
    let state = status.state.clone().unwrap_or_default();
    let running = state.running.as_ref().and(status.container_id.as_deref());
    let found = running.and_then(incarnation);
    let found = found.or_else(|| ended(&status.state)).or(last);
    found.ok_or_else(|| match state.waiting.and_then(|it| it.reason) {
        _ if state.terminated.is_some() => format!("{subject} is terminated"),
        Some(reason) => {
            let why = match reason.as_str() {
                "ErrImagePull" => "image can't be pulled",
                "ImagePullBackOff" => "trying and failing to pull image",
                other => other,
            };
            format!("{subject} is waiting to start: {why}")
        }
        None => format!("{subject} is waiting to start - no logs yet"),
    })
}

fn named<'a>(status: &'a PodStatus, container: &str) -> Option<&'a ContainerStatus> {
    let lists = [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ];
    let mut all = lists.into_iter().flatten().flatten();
    all.find(|status| status.name == container)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[track_caller]
    fn check(status: &Value, previous: bool, expected: Result<u32, &str>) {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p"}})).unwrap();
        let mut container = json!({
            "name": "c", "image": "i", "imageID": "", "ready": false, "restartCount": 0,
        });
        for (key, value) in status.as_object().unwrap() {
            container[key] = value.clone();
        }
        let status = serde_json::from_value(json!({"containerStatuses": [container]})).unwrap();
        let found = of_status(&pod, Some(&status), "c", previous);
        assert_eq!(
            found.as_ref().map_err(String::as_str),
            expected.as_ref().map_err(|it| *it)
        );
    }

    #[test]
    fn a_log_is_of_the_run_that_the_status_names() {
        let ended = |run: u32| json!({"terminated": {"exitCode": 1, "containerID": format!("wasmorch://u.c.{run}")}});
        let running = json!({
            "state": {"running": {}}, "containerID": "wasmorch://u.c.3", "lastState": ended(2),
        });
        check(&running, false, Ok(3));
        check(&running, true, Ok(2));
        // Between two runs there is no other than the last, whichever is asked for.
        let looping = json!({
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": ended(1),
        });
        check(&looping, false, Ok(1));
        check(&looping, true, Ok(1));
        check(&json!({"state": ended(0)}), false, Ok(0));
        check(
            &json!({"state": ended(0)}),
            true,
            Err("previous terminated container \"c\" in pod \"p\" not found"),
        );
    }

    #[test]
    fn without_a_run_the_reason_is_told() {
        for (reason, text) in [
            ("ErrImagePull", "image can't be pulled"),
            ("ImagePullBackOff", "trying and failing to pull image"),
            ("ContainerCreating", "ContainerCreating"),
        ] {
            let text = format!("container \"c\" in pod \"p\" is waiting to start: {text}");
            check(
                &json!({"state": {"waiting": {"reason": reason}}}),
                false,
                Err(&text),
            );
        }
        let text = "container \"c\" in pod \"p\" is waiting to start - no logs yet";
        check(&json!({}), false, Err(text));
        assert_eq!(
            of_status(&Pod::default(), None, "c", false).unwrap_err(),
            "container \"c\" in pod \"\" is not available"
        );
    }
}
