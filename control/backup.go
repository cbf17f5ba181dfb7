package control

// The headers of a backup.
const (
	// BackupInboxHeader names the inbox module whose copy it is.
	BackupInboxHeader = "Fotor-Webhook-Inbox"

	// BackupEventsHeader is the number of events that it must have.
	BackupEventsHeader = "Fotor-Webhook-Events"
)
