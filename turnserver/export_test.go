package turnserver

// PasswordFor is passwordFor, for tests that sign with wrong user names.
var PasswordFor = passwordFor
