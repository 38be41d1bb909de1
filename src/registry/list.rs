//! List: a consistent snapshot, in pages if asked for.
//!
//! Every page of one list is read at the revision of the first, which the continue token carries;
//! a token whose revision is no longer kept is answered with 410 and the client begins anew.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::field_error::Errors;
use super::filter::Filter;
use super::kinds::ResourceInfo;
use super::options::{List, ListOptions};
use super::path::Path;
use super::{Registry, present};
use crate::store::{ListQuery, Revision};

/// How long a reader waits for a revision that is said to exist.
const FUTURE_WAIT: Duration = Duration::from_secs(3);
const FUTURE_POLL: Duration = Duration::from_millis(10);

/// Where a list goes on.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Token {
    v: String,
    rv: u64,
    /// `namespace/name`, and a zero byte to say "after".
    start: String,
}

impl Token {
    fn encode(revision: u64, namespace: &str, name: &str) -> Result<String, Error> {
        let token = Self {
            v: "meta.k8s.io/v1".to_owned(),
            rv: revision,
            start: format!("{namespace}/{name}\0"),
        };
        let text = serde_json::to_vec(&token)
            .map_err(|error| Error::BadRequest(format!("continue token: {error}")))?;
        Ok(URL_SAFE_NO_PAD.encode(text))
    }

    fn decode(text: &str) -> Result<(u64, (String, String)), Error> {
        let refused = || Error::BadRequest("continue key is not valid".to_owned());
        let text = URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| refused())?;
        let token: Self = serde_json::from_slice(&text).map_err(|_| refused())?;
        let (namespace, name) = token.start.split_once('/').ok_or_else(refused)?;
        let name = name.trim_end_matches('\0');
        Ok((token.rv, (namespace.to_owned(), name.to_owned())))
    }
}

impl Registry {
    pub async fn list(
        &self,
        res: &'static ResourceInfo,
        ns: Option<&str>,
        options: &ListOptions,
    ) -> Result<List, Error> {
        let filter = Filter::parse(
            res,
            options.label_selector.as_deref(),
            options.field_selector.as_deref(),
        )?;
        let (at, start_after) = match options.continue_token.as_deref().filter(|t| !t.is_empty()) {
            Some(token) => {
                check_continued(options)?;
                let (revision, start) = Token::decode(token)?;
                (Some(Revision(revision)), Some(start))
            }
            None => (self.requested_revision(options).await?, None),
        };
        let query = ListQuery {
            resource: res.storage.to_owned(),
            namespace: ns.filter(|_| res.namespaced).map(str::to_owned),
            start_after,
            at,
        };
        self.page(
            res,
            &query,
            &filter,
            options.limit.filter(|limit| *limit > 0),
        )
    }

    fn page(
        &self,
        res: &'static ResourceInfo,
        query: &ListQuery,
        filter: &Filter,
        limit: Option<usize>,
    ) -> Result<List, Error> {
        let mut scan = self
            .store()
            .scan(query)
            .map_err(|error| Error::from_store(res, "", error))?;
        let revision = scan.revision().0;
        let mut matching = scan.by_ref().filter(|stored| filter.matches(stored));
        let limit = limit.unwrap_or(usize::MAX);
        let mut items = Vec::new();
        while items.len() < limit
            && let Some(stored) = matching.next()
        {
            items.push(stored);
        }
        let more = if items.len() == limit {
            matching.next()
        } else {
            None
        };
        let (continue_token, remaining) = match (more, items.last()) {
            (Some(_), Some(last)) => {
                let token = Token::encode(revision, &last.key.namespace, &last.key.name)?;
                let remaining = filter.is_empty().then(|| 1 + scan.count());
                (Some(token), remaining)
            }
            _ => (None, None),
        };
        let items: Result<Vec<_>, Error> = items
            .into_iter()
            .map(|stored| present(res, stored))
            .collect();
        Ok(List {
            revision,
            items: items?,
            continue_token,
            remaining,
        })
    }

    /// The revision to read at: `None` is now.
    async fn requested_revision(&self, options: &ListOptions) -> Result<Option<Revision>, Error> {
        let text = options.resource_version.as_deref().unwrap_or_default();
        let rule = options.resource_version_match.as_deref();
        check_match(text, rule)?;
        let revision = parse_revision(text)?;
        if revision == 0 {
            return Ok(None);
        }
        self.wait_for(revision).await?;
        Ok((rule == Some("Exact")).then_some(Revision(revision)))
    }

    /// Waits a little for a revision that this server has not seen yet.
    pub(super) async fn wait_for(&self, revision: u64) -> Result<(), Error> {
        let reached = async {
            while self.store().revision().0 < revision {
                tokio::time::sleep(FUTURE_POLL).await;
            }
        };
        tokio::time::timeout(FUTURE_WAIT, reached)
            .await
            .map_err(|_| Error::FutureRevision {
                requested: revision,
                current: self.store().revision().0,
            })
    }
}

/// An empty text is revision 0, "any".
pub(super) fn parse_revision(text: &str) -> Result<u64, Error> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse()
        .map_err(|_| Error::BadRequest(format!("invalid resource version {text:?}")))
}

/// A continued list has its revision from its token.
fn check_continued(options: &ListOptions) -> Result<(), Error> {
    let mut errors = Errors::default();
    let rule = options.resource_version_match.as_deref();
    if rule.is_some_and(|rule| !rule.is_empty()) {
        errors.forbidden(
            &Path::Root.field("resourceVersionMatch"),
            "resourceVersionMatch is forbidden when continue is provided",
        );
    }
    refuse_options(errors)?;
    match options.resource_version.as_deref() {
        None | Some("" | "0") => Ok(()),
        Some(_) => Err(Error::BadRequest(
            "specifying resource version is not allowed when using continue".to_owned(),
        )),
    }
}

fn check_match(revision: &str, rule: Option<&str>) -> Result<(), Error> {
    let mut errors = Errors::default();
    let path = Path::Root.field("resourceVersionMatch");
    match rule.filter(|rule| !rule.is_empty()) {
        None => {}
        Some(_) if revision.is_empty() => errors.forbidden(
            &path,
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        Some("Exact") if revision == "0" => errors.forbidden(
            &path,
            "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"",
        ),
        rule => errors.one_of(&path, rule, &["Exact", "NotOlderThan"]),
    }
    refuse_options(errors)
}

/// Options of a list or watch that contradict each other.
pub(super) fn refuse_options(errors: Errors) -> Result<(), Error> {
    if errors.0.is_empty() {
        return Ok(());
    }
    Err(Error::Invalid {
        group: "meta.k8s.io".to_owned(),
        kind: "ListOptions".to_owned(),
        name: String::new(),
        errors: errors.0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip_and_rubbish_is_refused() {
        let token = Token::encode(7, "a", "b").unwrap();
        assert_eq!(
            Token::decode(&token).unwrap(),
            (7, ("a".into(), "b".into()))
        );
        for text in ["x", "e30", "!!", ""] {
            assert!(Token::decode(text).is_err(), "{text}");
        }
    }

    #[test]
    fn revision_matches_are_checked() {
        for (revision, rule, is_good) in [
            ("", None, true),
            ("5", Some("Exact"), true),
            ("5", Some("NotOlderThan"), true),
            ("0", Some("NotOlderThan"), true),
            ("0", Some("Exact"), false),
            ("", Some("Exact"), false),
            ("5", Some("Newest"), false),
        ] {
            assert_eq!(
                check_match(revision, rule).is_ok(),
                is_good,
                "{revision} {rule:?}"
            );
        }
    }
}
