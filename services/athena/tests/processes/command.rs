//! How the command ends, and what it says then.

use std::process::{Command, Output};

use athena::Service;
use tokio::net::TcpSocket;

fn athena(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_athena")).args(arguments).env_clear().output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[tokio::test]
async fn status_fails_where_nothing_runs_and_still_prints_one_json_object() {
    // Taken, but nobody listens: connections are refused as long as these live.
    let sockets: Vec<TcpSocket> = Service::ALL
        .iter()
        .map(|_| {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind((std::net::Ipv4Addr::LOCALHOST, 0).into()).unwrap();
            socket
        })
        .collect();
    let ports = Service::ALL.iter().zip(&sockets);
    let settings: Vec<String> = ports
        .map(|(service, socket)| {
            format!("{}={}", service.port_setting(), socket.local_addr().unwrap().port())
        })
        .collect();
    let mut arguments = vec!["status", "--json"];
    arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    let output = athena(&arguments);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let printed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(printed["serving"], false);
    let services = printed["services"].as_array().unwrap();
    assert_eq!(services.len(), 5);
    assert!(services.iter().all(|service| service["state"] == "no answer"), "{printed:#}");
}

#[test]
fn a_wrong_value_is_wrong_use_and_names_its_setting() {
    for verb in [&["status"][..], &["serve", "memory-service"], &["demo"]] {
        let output = athena(&[verb, &["--set", "memory_cache_size=lots"]].concat());
        assert_eq!(output.status.code(), Some(2), "{verb:?}: {}", said(&output));
        assert!(said(&output).contains("memory_cache_size"), "{verb:?}: {}", said(&output));
        assert!(output.stdout.is_empty(), "{verb:?}");
    }
}

#[test]
fn the_platforms_port_stands_for_the_service_s_own() {
    let serve = |service: Service, variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_athena"));
        command.args(["serve", service.name()]).env_clear().envs(variables.iter().copied()).output().unwrap()
    };
    for service in Service::ALL {
        let setting = service.port_setting();
        let output = serve(service, &[("PORT", "many")]);
        assert_eq!(output.status.code(), Some(2), "{service}: {}", said(&output));
        let expected = format!("{setting} = \"many\" (environment variable PORT)");
        assert!(said(&output).contains(&expected), "{service}: {}", said(&output));
        // The setting's own variable is stronger.
        let own = format!("ATHENA_{}", setting.to_uppercase());
        let output = serve(service, &[("PORT", "many"), (&own, "some")]);
        assert!(said(&output).contains(&own) && !said(&output).contains("many"), "{}", said(&output));
    }
}

#[test]
fn all_wrong_settings_are_reported_at_once() {
    let wrong = ["memory_cash_size", "no_such_setting", "firestore_batch_size", "llm_port"];
    for verb in ["status", "demo"] {
        let mut arguments = vec![verb.to_owned()];
        arguments.extend(wrong.iter().flat_map(|name| ["--set".to_owned(), format!("{name}=-1")]));
        let output = athena(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(2), "{verb}: {}", said(&output));
        for name in wrong {
            assert!(said(&output).contains(name), "{verb} does not name {name}: {}", said(&output));
        }
    }
}

#[test]
fn an_unknown_verb_and_an_unknown_service_are_wrong_use() {
    for arguments in [&["dance"][..], &["serve", "dancer"], &[]] {
        assert_eq!(athena(arguments).status.code(), Some(2), "{arguments:?}");
    }
}
