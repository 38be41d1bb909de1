//! Acting as somebody else: `kubectl --as jane --as-group dev`.
//!
//! The headers name a user, groups, a uid and extra facts, and the caller needs the verb
//! `impersonate` on each of them. From then on the request is the other's: rights, admission and
//! ownership of fields see the other and no longer the caller.

use std::collections::BTreeMap;

use http::HeaderMap;

use crate::registry::Caller;
use crate::registry::rbac::Rbac;

use super::authorize::{self, Attributes};
use super::error::Error;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
const EXTRA: &str = "impersonate-extra-";
const ACCOUNT: &str = "system:serviceaccount:";

/// Who the request is to be taken for.
pub(crate) fn resolve(rbac: &Rbac, caller: Caller, headers: &HeaderMap) -> Result<Caller, Error> {
    let Some(wanted) = wanted(headers)? else {
        return Ok(caller);
    };
    check_user(rbac, &caller, &wanted.user)?;
    for group in &wanted.groups {
        check(rbac, &caller, "", "groups", group)?;
    }
    if let Some(uid) = &wanted.uid {
        check(rbac, &caller, "authentication.k8s.io", "uids", uid)?;
    }
    for (key, values) in &wanted.extra {
        for value in values {
            let wanted = Attributes {
                verb: "impersonate",
                group: "authentication.k8s.io",
                resource: "userextras",
                subresource: Some(key),
                namespace: None,
                name: Some(value),
            };
            authorize::authorize(rbac, &caller, wanted).map_err(Error::Denied)?;
        }
    }
    Ok(completed(wanted))
}

/// What the headers ask for.
fn wanted(headers: &HeaderMap) -> Result<Option<Caller>, Error> {
    let unreadable = || Error::BadRequest("an Impersonate header is not readable".to_owned());
    let text = |value: &http::HeaderValue| {
        let text = value.to_str().map_err(|_| unreadable())?;
        Ok::<_, Error>(text.to_owned())
    };
    let first = |name| headers.get(name).map(text).transpose();
    let user = first(USER)?.unwrap_or_default();
    let groups: Vec<String> = headers
        .get_all(GROUP)
        .iter()
        .map(text)
        .collect::<Result<_, _>>()?;
    let uid = first(UID)?.filter(|uid| !uid.is_empty());
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        if let Some(key) = name.as_str().strip_prefix(EXTRA) {
            let key = percent_encoding::percent_decode_str(key)
                .decode_utf8()
                .map_err(|_| unreadable())?;
            extra
                .entry(key.into_owned())
                .or_default()
                .push(text(value)?);
        }
    }
    if !user.is_empty() {
        return Ok(Some(Caller {
            user,
            groups,
            uid,
            extra,
        }));
    }
    if groups.is_empty() && uid.is_none() && extra.is_empty() {
        return Ok(None);
    }
    Err(Error::BadRequest(
        "requested groups, a uid or extra facts without impersonating a user".to_owned(),
    ))
}

fn check_user(rbac: &Rbac, caller: &Caller, user: &str) -> Result<(), Error> {
    let account = user
        .strip_prefix(ACCOUNT)
        .and_then(|rest| rest.split_once(':'));
    let Some((ns, name)) = account else {
        return check(rbac, caller, "", "users", user);
    };
    let wanted = Attributes {
        verb: "impersonate",
        group: "",
        resource: "serviceaccounts",
        subresource: None,
        namespace: Some(ns),
        name: Some(name),
    };
    authorize::authorize(rbac, caller, wanted).map_err(Error::Denied)
}

fn check(
    rbac: &Rbac,
    caller: &Caller,
    group: &str,
    resource: &str,
    name: &str,
) -> Result<(), Error> {
    let wanted = Attributes {
        verb: "impersonate",
        group,
        resource,
        subresource: None,
        namespace: None,
        name: Some(name),
    };
    authorize::authorize(rbac, caller, wanted).map_err(Error::Denied)
}

/// The groups that come with being somebody.
fn completed(mut caller: Caller) -> Caller {
    let account = caller
        .user
        .strip_prefix(ACCOUNT)
        .and_then(|rest| rest.split_once(':'));
    if let (Some((ns, _)), true) = (account, caller.groups.is_empty()) {
        caller.groups.push("system:serviceaccounts".to_owned());
        caller.groups.push(format!("system:serviceaccounts:{ns}"));
    }
    let own = if caller.user == "system:anonymous" {
        "system:unauthenticated"
    } else {
        "system:authenticated"
    };
    if !caller.is_member(own) {
        caller.groups.push(own.to_owned());
    }
    caller
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_somebody() {
        let read = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            wanted(&headers).map(|wanted| wanted.map(completed))
        };
        assert!(read(&[]).unwrap().is_none());
        assert!(read(&[(GROUP, "dev")]).is_err());
        let jane = read(&[
            (USER, "jane"),
            (GROUP, "dev"),
            (GROUP, "ops"),
            (UID, "7"),
            ("impersonate-extra-scopes%2fx", "view"),
        ]);
        let jane = jane.unwrap().unwrap();
        assert_eq!(jane.groups, ["dev", "ops", "system:authenticated"]);
        assert_eq!(jane.uid.as_deref(), Some("7"));
        assert_eq!(jane.extra["scopes/x"], ["view"]);
        let account = read(&[(USER, "system:serviceaccount:ns:a")]).unwrap();
        assert_eq!(
            account.unwrap().groups,
            [
                "system:serviceaccounts",
                "system:serviceaccounts:ns",
                "system:authenticated"
            ]
        );
        let nobody = read(&[(USER, "system:anonymous")]).unwrap().unwrap();
        assert_eq!(nobody.groups, ["system:unauthenticated"]);
    }
}
