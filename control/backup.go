package control

// The headers of a backup.
const (
	// BackupInboxHeader is the name of the inbox module that made the copy.
	BackupInboxHeader = "Fotor-Webhook-Inbox"

	// BackupEventsHeader is the number of events in it.
	BackupEventsHeader = "Fotor-Webhook-Events"
)
