//! The scale subresource of a custom kind: where its definition says the replicas are.

use serde_json::{Map, Value};

use crate::api::json_path::Path;

/// Where a scalable object has its numbers.
#[derive(Clone, Debug)]
pub(crate) struct ScalePaths {
    pub(crate) spec_replicas: Vec<String>,
    status_replicas: Vec<String>,
    selector: Option<Vec<String>>,
}

impl ScalePaths {
    /// Of a version's `subresources.scale`; `None` if there is none.
    pub(super) fn of(scale: &Value) -> Option<Self> {
        let path = |name: &str| fields(scale[name].as_str()?);
        Some(Self {
            spec_replicas: path("specReplicasPath")?,
            status_replicas: path("statusReplicasPath")?,
            selector: path("labelSelectorPath"),
        })
    }

    /// The wanted replicas, if the object says any.
    pub(crate) fn wanted(&self, object: &Value) -> Option<i64> {
        at(object, &self.spec_replicas)?.as_i64()
    }

    /// The replicas that there are.
    pub(crate) fn there(&self, object: &Value) -> i64 {
        at(object, &self.status_replicas)
            .and_then(Value::as_i64)
            .unwrap_or(0)
    }

    /// The selector of its pods, as a text.
    pub(crate) fn selector<'a>(&self, object: &'a Value) -> Option<&'a str> {
        at(object, self.selector.as_ref()?)?.as_str()
    }

    /// The object with this many wanted replicas.
    pub(crate) fn with(&self, mut object: Value, replicas: i32) -> Value {
        let mut place = &mut object;
        for name in &self.spec_replicas {
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[name.as_str()];
        }
        *place = replicas.into();
        object
    }
}

/// `.spec.replicas` as its fields; `None` if it is more than fields.
pub(crate) fn fields(path: &str) -> Option<Vec<String>> {
    let path = Path::simple(path).ok()?;
    let fields = path.fields()?;
    Some(fields.into_iter().map(str::to_owned).collect())
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(object, |value, name| value.get(name))
}
