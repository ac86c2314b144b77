"""The forms that evidence takes, and how anyone checks them: needs `cryptography` and the standard library, no service.

`merkle` is the log's tree, `notes` its signed checkpoints, `dsse` signed statements, `keys` what they are signed with,
`bundle` the archive that holds them all, `claims` what its attestations say, `verify` reads it, and `heads` holds two
checkpoints against each other.
"""
