//! The first start on a machine: no configuration, no token, nobody asked.

use crate::inside::{inside, sh};
use crate::network;
use crate::record::Recorded;
use crate::watchfold::House;

#[test]
fn without_a_configuration_it_finds_its_own() {
    inside(
        "first_start::without_a_configuration_it_finds_its_own",
        first_start,
    );
}

async fn first_start() {
    network::build();
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let house = House::new(&data, "");
    std::fs::remove_file(data.join("watchfold.toml")).unwrap();
    let running = house.start().await;
    for name in ["router", "internet"] {
        house
            .wait_for(&format!("{name} is up"), "targets", |targets| {
                crate::outage::state(targets, name) == Some("up")
            })
            .await;
    }
    let said = house.said();
    let path = data.join("watchfold.toml");
    let found = format!(
        "first start: watching the router 192.168.7.1 and the internet by 8.8.8.8 and 1.1.1.1; edit {} to change it",
        path.display()
    );
    assert!(said.lines().any(|line| line == found), "{said}");
    let link = data.join("link");
    let opened = format!(
        "watching; the page is at http://127.0.0.1:8737/ and the link with its token in {}",
        link.display()
    );
    assert!(said.lines().any(|line| line == opened), "{said}");

    // The token is for the owner's eyes: in files of mode 0600, and never in what goes to a file or a journal.
    let token = house.token().expect("a token was made");
    assert!(!said.contains(&token), "the token went into a log");
    assert!(std::fs::read_to_string(&link).unwrap().contains(&token));
    for file in ["token", "link", "watchfold.toml"] {
        sh(&format!("test $(stat -c %a {}) = 600", data.join(file).display()));
    }
    assert_eq!(house.status("/api/v1/targets").await, Some(401));
    let checked = house.run(&["config", "check"]).await;
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stderr)
    );
    assert!(running.stop().await.success(), "{}", house.said());
    Recorded::checked(&data);
    sh(&format!(
        "test -z \"$(find {} -perm /077 | tee /dev/stderr)\"",
        data.display()
    ));
    // Limits as shells and service managers set them. A process that runs out of address space cannot start its threads.
    for limit in ["-v 600000", "-n 1024"] {
        let running = house.spawn_under(limit);
        house.ready().await;
        house
            .wait_for(
                &format!("it watches under ulimit {limit}"),
                "targets",
                |targets| crate::outage::state(targets, "router") == Some("up"),
            )
            .await;
        assert!(running.stop().await.success(), "{}", house.said());
    }
    assert!(!house.said().contains("panicked"), "{}", house.said());
}
