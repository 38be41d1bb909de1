//! The two ways to an object: by HTTP and by the registry's own verbs. A behaviour asks through a
//! [`Door`] and sees the same answers, whichever it is.

use serde_json::{Value, json};
use wasmorch::registry::{
    DeleteOptions, Deleted, Error, FieldError, FieldValidation, ListOptions, Patch, Propagation,
    ResourceInfo, WriteOptions, Written,
};

use super::world::{Answer, World, name_of, namespace};

/// One of the ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Http,
    Registry,
}

/// A way to the objects of one row.
#[derive(Clone, Copy)]
pub(super) struct Door<'a> {
    pub(super) world: &'a World,
    pub(super) way: Way,
    pub(super) row: &'static ResourceInfo,
}

impl std::fmt::Debug for Door<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} by {:?}", self.row, self.way)
    }
}

/// Query parameters.
pub(super) type Options<'a> = &'a [(&'a str, &'a str)];

fn option<'a>(options: Options<'a>, name: &str) -> Option<&'a str> {
    let mut found = options.iter().filter(|(key, _)| *key == name);
    found.next().map(|(_, value)| *value)
}

pub(super) const JSON_PATCH: &str = "application/json-patch+json";
pub(super) const MERGE: &str = "application/merge-patch+json";
pub(super) const STRATEGIC: &str = "application/strategic-merge-patch+json";
pub(super) const APPLY: &str = "application/apply-patch+yaml";

impl Door<'_> {
    fn ns(&self) -> Option<&'static str> {
        namespace(self.row)
    }

    /// The path of the collection, or of one object and what hangs below it.
    pub(super) fn path(&self, name: &str, below: Option<&str>, options: Options<'_>) -> String {
        let mut path = collection(self.row, self.ns());
        for part in [name, below.unwrap_or_default()] {
            if !part.is_empty() {
                path = format!("{path}/{part}");
            }
        }
        if options.is_empty() {
            return path;
        }
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(options)
            .finish();
        format!("{path}?{query}")
    }

    pub(super) async fn http(
        &self,
        method: &str,
        path: &str,
        media: &str,
        body: Option<&Value>,
    ) -> Answer {
        let bytes = body.map(Value::to_string).unwrap_or_default();
        let headers = [("content-type", media), ("user-agent", "test/1")];
        let answer = self.world.ask(method, path, &headers, bytes.as_bytes());
        answer.await.unwrap()
    }

    pub(super) async fn create(&self, object: &Value, options: Options<'_>) -> Answer {
        match self.way {
            Way::Http => {
                let path = self.path("", None, options);
                self.http("POST", &path, "application/json", Some(object))
                    .await
            }
            Way::Registry => written(
                self.world
                    .registry
                    .create(
                        self.row,
                        self.ns(),
                        object.clone(),
                        &write_options(options),
                        &self.world.caller,
                    )
                    .await,
            ),
        }
    }

    pub(super) async fn get(&self, name: &str) -> Answer {
        match self.way {
            Way::Http => {
                self.http("GET", &self.path(name, None, &[]), "", None)
                    .await
            }
            Way::Registry => match self.world.registry.get(self.row, self.ns(), name) {
                Ok(stored) => done(200, stored.object.clone()),
                Err(error) => failed(&error),
            },
        }
    }

    pub(super) async fn list(&self, options: Options<'_>) -> Answer {
        if self.way == Way::Http {
            let path = self.path("", None, options);
            return self.http("GET", &path, "", None).await;
        }
        let list = list_options(options);
        let listed = self.world.registry.list(self.row, self.ns(), &list).await;
        match listed {
            Ok(list) => {
                let items: Vec<Value> = list.items.iter().map(|it| it.object.clone()).collect();
                let mut metadata = json!({"resourceVersion": list.revision.to_string()});
                if let Some(token) = list.continue_token {
                    metadata["continue"] = token.into();
                }
                if let Some(remaining) = list.remaining {
                    metadata["remainingItemCount"] = remaining.into();
                }
                done(
                    200,
                    json!({"kind": self.row.list_kind(),
                    "apiVersion": self.row.api_version(), "metadata": metadata, "items": items}),
                )
            }
            Err(error) => failed(&error),
        }
    }

    pub(super) async fn update(
        &self,
        name: &str,
        below: Option<&str>,
        object: &Value,
        options: Options<'_>,
    ) -> Answer {
        if self.way == Way::Http {
            let path = self.path(name, below, options);
            return self
                .http("PUT", &path, "application/json", Some(object))
                .await;
        }
        let options = write_options(options);
        let World {
            registry, caller, ..
        } = self.world;
        let result = registry
            .update(
                self.row,
                self.ns(),
                name,
                below,
                object.clone(),
                &options,
                caller,
            )
            .await;
        self.scaled(below, written(result))
    }

    pub(super) async fn patch(
        &self,
        name: &str,
        (media, below): (&str, Option<&str>),
        patch: &Value,
        options: Options<'_>,
    ) -> Answer {
        if self.way == Way::Http {
            let path = self.path(name, below, options);
            return self.http("PATCH", &path, media, Some(patch)).await;
        }
        let patch = match media {
            JSON_PATCH => Patch::Json(patch.clone()),
            MERGE => Patch::Merge(patch.clone()),
            STRATEGIC => Patch::Strategic(patch.clone()),
            _ => Patch::Apply {
                object: patch.clone(),
                force: option(options, "force") == Some("true"),
                may_create: true,
            },
        };
        let options = write_options(options);
        let World {
            registry, caller, ..
        } = self.world;
        let result = registry
            .patch(self.row, self.ns(), name, below, patch, &options, caller)
            .await;
        self.scaled(below, written(result))
    }

    /// A write of the scale answers the scale by HTTP, and the object by the registry.
    fn scaled(&self, below: Option<&str>, answer: Answer) -> Answer {
        if below != Some("scale") || answer.code >= 300 {
            return answer;
        }
        let scale = self
            .world
            .registry
            .scale(self.row, self.ns(), name_of(&answer.body));
        match scale {
            Ok(scale) => done(answer.code, scale),
            Err(error) => failed(&error),
        }
    }

    pub(super) async fn scale(&self, name: &str) -> Answer {
        if self.way == Way::Http {
            let path = self.path(name, Some("scale"), &[]);
            return self.http("GET", &path, "", None).await;
        }
        match self.world.registry.scale(self.row, self.ns(), name) {
            Ok(scale) => done(200, scale),
            Err(error) => failed(&error),
        }
    }

    pub(super) async fn delete(&self, name: &str, body: &Value) -> Answer {
        if self.way == Way::Http {
            let path = self.path(name, None, &[]);
            let body = (!body.is_null()).then_some(body);
            return self.http("DELETE", &path, "application/json", body).await;
        }
        let World {
            registry, caller, ..
        } = self.world;
        let options = delete_options(body);
        match registry
            .delete(self.row, self.ns(), name, &options, caller)
            .await
        {
            Ok(Deleted::Gone(_)) => done(200, json!({"kind": "Status", "status": "Success"})),
            Ok(Deleted::Pending(stored)) => done(200, stored.object.clone()),
            Err(error) => failed(&error),
        }
    }

    pub(super) async fn delete_collection(&self, options: Options<'_>) -> Answer {
        if self.way == Way::Http {
            let path = self.path("", None, options);
            return self.http("DELETE", &path, "", None).await;
        }
        let World {
            registry, caller, ..
        } = self.world;
        let (list, delete) = (list_options(options), DeleteOptions::default());
        match registry
            .delete_collection(self.row, self.ns(), &list, &delete, caller)
            .await
        {
            Ok(items) => {
                let items: Vec<Value> = items.iter().map(|it| it.object.clone()).collect();
                done(200, json!({"kind": self.row.list_kind(), "items": items}))
            }
            Err(error) => failed(&error),
        }
    }
}

pub(super) fn collection(row: &ResourceInfo, ns: Option<&str>) -> String {
    let root = if row.group.is_empty() { "api" } else { "apis" };
    let api_version = row.api_version();
    match ns {
        Some(ns) => format!("/{root}/{api_version}/namespaces/{ns}/{}", row.plural),
        None => format!("/{root}/{api_version}/{}", row.plural),
    }
}

fn done(code: u16, body: Value) -> Answer {
    Answer {
        code,
        body,
        warnings: Vec::new(),
    }
}

fn written(result: Result<Written, Error>) -> Answer {
    match result {
        Ok(written) => Answer {
            code: if written.created { 201 } else { 200 },
            body: written.object.object.clone(),
            warnings: written.warnings,
        },
        Err(error) => failed(&error),
    }
}

/// The words that the API server gives an error, as far as the behaviours look at them.
pub(super) fn failed(error: &Error) -> Answer {
    let (code, reason) = match error {
        Error::NotFound { .. } => (404, "NotFound"),
        Error::AlreadyExists { .. } => (409, "AlreadyExists"),
        Error::Conflict { .. } | Error::ApplyConflict(_) => (409, "Conflict"),
        Error::Invalid { .. } => (422, "Invalid"),
        Error::BadRequest(_) => (400, "BadRequest"),
        Error::Forbidden { .. } => (403, "Forbidden"),
        Error::DisruptionBudget { .. } => (429, "TooManyRequests"),
        Error::Expired => (410, "Expired"),
        Error::FutureRevision { .. } => (504, "Timeout"),
        Error::MethodNotAllowed | Error::CreateNotAllowed => (405, "MethodNotAllowed"),
        Error::NoStrategicPatch => (415, "UnsupportedMediaType"),
        Error::SeveralBudgets | Error::Store(_) | Error::Corrupt { .. } => (500, "InternalError"),
    };
    let causes: Vec<Value> = match error {
        Error::Invalid { errors, .. } => errors.iter().map(cause).collect(),
        Error::ApplyConflict(conflicts) => conflicts
            .iter()
            .map(|it| json!({"reason": "FieldManagerConflict", "field": it.field}))
            .collect(),
        _ => Vec::new(),
    };
    done(
        code,
        json!({"kind": "Status", "reason": reason, "message": error.to_string(),
            "details": {"causes": causes}, "code": code}),
    )
}

fn cause(error: &FieldError) -> Value {
    json!({"reason": error.reason, "field": error.field, "message": error.message})
}

fn write_options(options: Options<'_>) -> WriteOptions {
    WriteOptions {
        dry_run: option(options, "dryRun") == Some("All"),
        field_manager: Some(option(options, "fieldManager").unwrap_or("test").to_owned()),
        field_validation: match option(options, "fieldValidation") {
            Some("Strict") => FieldValidation::Strict,
            Some("Ignore") => FieldValidation::Ignore,
            _ => FieldValidation::Warn,
        },
        duplicate_fields: Vec::new(),
    }
}

fn list_options(options: Options<'_>) -> ListOptions {
    let text = |name: &str| option(options, name).map(str::to_owned);
    ListOptions {
        label_selector: text("labelSelector"),
        field_selector: text("fieldSelector"),
        limit: option(options, "limit").map(|limit| limit.parse().unwrap()),
        continue_token: text("continue"),
        resource_version: text("resourceVersion"),
        resource_version_match: text("resourceVersionMatch"),
    }
}

fn delete_options(body: &Value) -> DeleteOptions {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    DeleteOptions {
        dry_run: body["dryRun"][0] == "All",
        grace_period_seconds: body["gracePeriodSeconds"].as_i64(),
        propagation_policy: match body["propagationPolicy"].as_str() {
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Foreground") => Some(Propagation::Foreground),
            Some("Background") => Some(Propagation::Background),
            _ => None,
        },
        uid: text(&body["preconditions"]["uid"]),
        resource_version: text(&body["preconditions"]["resourceVersion"]),
    }
}
