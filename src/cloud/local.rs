//! This machine as a cloud: one address for all load balancers, which the router listens on and
//! tells apart by port. Pure.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, Service};

/// What the Service's load balancer status must become; `None` if it is so already.
///
/// A Service with a `loadBalancerClass` is somebody else's.
pub(super) fn load_balancer(
    service: &Service,
    address: Option<IpAddr>,
) -> Option<LoadBalancerStatus> {
    let spec = service.spec.as_ref()?;
    let current = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.clone())
        .unwrap_or_default();
    let is_wanted = spec.type_.as_deref() == Some("LoadBalancer")
        && service.metadata.deletion_timestamp.is_none();
    if is_wanted && spec.load_balancer_class.is_some() {
        return None;
    }
    let ingress = address.filter(|_| is_wanted).map(|address| {
        vec![LoadBalancerIngress {
            ip: Some(address.to_string()),
            ip_mode: Some("VIP".to_owned()),
            ..LoadBalancerIngress::default()
        }]
    });
    (ingress.as_deref().unwrap_or_default() != current.ingress.as_deref().unwrap_or_default())
        .then_some(LoadBalancerStatus { ingress })
}

#[cfg(test)]
#[expect(clippy::needless_pass_by_value, reason = "cases read better as values")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn service(kind: &str, class: Value, ip: Value) -> Service {
        let ingress = ip.as_str().map(|ip| json!([{"ip": ip, "ipMode": "VIP"}]));
        serde_json::from_value(json!({"spec": {"type": kind, "loadBalancerClass": class},
            "status": {"loadBalancer": {"ingress": ingress}}}))
        .unwrap()
    }

    #[test]
    fn addresses_are_given_and_taken_back() {
        let address: IpAddr = "127.0.0.1".parse().unwrap();
        let check = |service: &Service, address: Option<IpAddr>| {
            let wanted = load_balancer(service, address)?;
            let ingress = wanted.ingress.unwrap_or_default();
            Some(
                ingress
                    .into_iter()
                    .filter_map(|ingress| ingress.ip)
                    .collect::<Vec<_>>(),
            )
        };
        let none = Value::Null;
        let given = || Some(vec!["127.0.0.1".to_owned()]);
        assert_eq!(
            check(
                &service("LoadBalancer", none.clone(), none.clone()),
                Some(address)
            ),
            given()
        );
        assert_eq!(
            check(&service("LoadBalancer", none.clone(), none.clone()), None),
            None
        );
        assert_eq!(
            check(
                &service("LoadBalancer", none.clone(), json!("127.0.0.1")),
                Some(address)
            ),
            None
        );
        assert_eq!(
            check(
                &service("LoadBalancer", json!("x"), none.clone()),
                Some(address)
            ),
            None
        );
        assert_eq!(
            check(
                &service("ClusterIP", none.clone(), none.clone()),
                Some(address)
            ),
            None
        );
        assert_eq!(
            check(
                &service("ClusterIP", none, json!("127.0.0.1")),
                Some(address)
            ),
            Some(Vec::new())
        );
    }
}
