//! Version 1 of the admin API: the table of its operations, one per file below. How to write one is
//! told in [`super::operation`].

mod access;
mod account_groups;
mod audit_events;
mod exports;
mod gateways;
mod groups;
mod keys;
mod organizations;
mod policy;
mod resources;
mod role_bindings;
mod roles;
mod security_policies;
mod service_accounts;
mod usage;
mod users;
mod whoami;

use super::operation::Operation;
pub(super) use policy::readers as policy_readers;

/// Every operation, in the order of service-accounts.md 9.6 to 9.12.
pub(crate) const OPERATIONS: &[Operation] = &[
    whoami::OPERATION,
    organizations::list::OPERATION,
    organizations::create::OPERATION,
    organizations::read::OPERATION,
    organizations::update::OPERATION,
    exports::organization::OPERATION,
    policy::read::OPERATION,
    policy::update::OPERATION,
    organizations::suspend::OPERATION,
    organizations::resume::OPERATION,
    organizations::explain::OPERATION,
    organizations::diagnose::OPERATION,
    resources::list::OPERATION,
    resources::create::OPERATION,
    resources::read::OPERATION,
    resources::update::OPERATION,
    resources::remove::OPERATION,
    resources::archive::OPERATION,
    resources::unarchive::OPERATION,
    users::list::OPERATION,
    users::create::OPERATION,
    users::read::OPERATION,
    users::remove::OPERATION,
    keys::list::OF_USER,
    keys::create::OF_USER,
    keys::read::OF_USER,
    keys::update::OF_USER,
    keys::remove::OF_USER,
    keys::activate::OF_USER,
    keys::deactivate::OF_USER,
    keys::revoke::OF_USER,
    keys::rotate::OF_USER,
    usage::key::OF_USER,
    keys::batch::OF_USER,
    service_accounts::list::OPERATION,
    service_accounts::create::OPERATION,
    service_accounts::import::OPERATION,
    service_accounts::read::OPERATION,
    service_accounts::update::OPERATION,
    service_accounts::remove::OPERATION,
    service_accounts::activate::OPERATION,
    service_accounts::deactivate::OPERATION,
    service_accounts::revoke::OPERATION,
    service_accounts::batch::OPERATION,
    access::list::OPERATION,
    access::grant::OPERATION,
    access::update::OPERATION,
    access::remove::OPERATION,
    account_groups::list::OPERATION,
    account_groups::assign::OPERATION,
    account_groups::remove::OPERATION,
    keys::list::OPERATION,
    keys::list_all::OPERATION,
    keys::create::OPERATION,
    keys::import::OPERATION,
    keys::read::OPERATION,
    keys::update::OPERATION,
    keys::remove::OPERATION,
    keys::activate::OPERATION,
    keys::deactivate::OPERATION,
    keys::revoke::OPERATION,
    keys::rotate::OPERATION,
    usage::key::OPERATION,
    usage::account::OPERATION,
    keys::batch::OPERATION,
    roles::list::OPERATION,
    roles::create::OPERATION,
    roles::read::OPERATION,
    roles::update::OPERATION,
    roles::remove::OPERATION,
    role_bindings::list::OPERATION,
    role_bindings::create::OPERATION,
    role_bindings::read::OPERATION,
    role_bindings::update::OPERATION,
    role_bindings::remove::OPERATION,
    role_bindings::batch::OPERATION,
    groups::list::OPERATION,
    groups::create::OPERATION,
    groups::read::OPERATION,
    groups::update::OPERATION,
    groups::remove::OPERATION,
    groups::list_members::OPERATION,
    groups::add_member::OPERATION,
    groups::remove_member::OPERATION,
    security_policies::list::OPERATION,
    security_policies::create::OPERATION,
    security_policies::read::OPERATION,
    security_policies::update::OPERATION,
    security_policies::remove::OPERATION,
    security_policies::enable::OPERATION,
    security_policies::disable::OPERATION,
    audit_events::list::OPERATION,
    audit_events::read::OPERATION,
    audit_events::verify::OPERATION,
    usage::organization::OPERATION,
    exports::installation::OPERATION,
    gateways::list::OPERATION,
    gateways::read::OPERATION,
    gateways::remove::OPERATION,
    gateways::propagation::OPERATION,
];
