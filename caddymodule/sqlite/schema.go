package sqlite

import (
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// applicationID marks the file as the gateway's, in SQLite's header: "FWHI".
const applicationID = 0x46574849

var setApplicationID = fmt.Sprintf(`PRAGMA application_id = %d`, applicationID)

// migration turns one version of the schema into the next.
type migration []string

// schema lists the migrations. The version of a file is the number of
// migrations applied to it. A released migration never changes.
var schema = []migration{{
	// Events in order of arrival. A row never changes, so the pages with bodies
	// are written once.
	`CREATE TABLE events (
		seq         INTEGER PRIMARY KEY,
		id          BLOB    NOT NULL, -- the first eight bytes are the task's key
		task_id     TEXT    NOT NULL,
		type        TEXT    NOT NULL,
		status      INTEGER NOT NULL, -- 0 in progress, 1 completed, 2 failed
		received_at INTEGER NOT NULL, -- times are in µs since 1970
		body        BLOB    NOT NULL
	) STRICT`,

	// The state of an event's delivery. An event without a row was never
	// settled and is ready, so that storing an event is a single insert.
	`CREATE TABLE delivery (
		seq           INTEGER PRIMARY KEY,
		state         INTEGER NOT NULL,           -- 0 ready, 1 retry, 2 blocked, 3 delivered, 4 superseded, 5 dead
		attempts      INTEGER NOT NULL DEFAULT 0,
		due           INTEGER NOT NULL DEFAULT 0, -- of a retry, also while it is blocked
		settled_at    INTEGER NOT NULL DEFAULT 0,
		last_at       INTEGER NOT NULL DEFAULT 0, -- the last attempt that counted
		last_duration INTEGER NOT NULL DEFAULT 0, -- in ns
		last_status   INTEGER NOT NULL DEFAULT 0,
		last_reason   TEXT    NOT NULL DEFAULT '',
		task_key      INTEGER                     -- while it is blocked
	) STRICT`,

	// Indexes of the rare states: an event that is delivered at the first
	// attempt is in none of them.
	`CREATE INDEX delivery_pending ON delivery (state, seq)    WHERE state <= 2`,
	`CREATE INDEX delivery_due     ON delivery (due)           WHERE state = 1`,
	`CREATE INDEX delivery_blocked ON delivery (task_key, seq) WHERE state = 2`,
	`CREATE INDEX delivery_dead    ON delivery (seq)           WHERE state = 5`,

	// Failed attempts. A successful one is only in its event's row.
	`CREATE TABLE attempts (
		seq      INTEGER NOT NULL,
		n        INTEGER NOT NULL,
		at       INTEGER NOT NULL,
		duration INTEGER NOT NULL,
		status   INTEGER NOT NULL,
		reason   TEXT    NOT NULL,
		PRIMARY KEY (seq, n)
	) WITHOUT ROWID, STRICT`,

	// The index from tasks to events up to meta.indexed_seq. A row outlives its
	// event for a while.
	`CREATE TABLE task_index (
		task_key INTEGER NOT NULL,
		seq      INTEGER NOT NULL,
		PRIMARY KEY (task_key, seq)
	) WITHOUT ROWID, STRICT`,

	`CREATE TABLE quarantine (
		id          INTEGER PRIMARY KEY,
		received_at INTEGER NOT NULL,
		source_ip   TEXT    NOT NULL,
		status      INTEGER NOT NULL,
		problems    BLOB    NOT NULL,
		body        BLOB    NOT NULL
	) STRICT`,

	// One row, written with every transaction.
	`CREATE TABLE meta (
		id           INTEGER PRIMARY KEY CHECK (id = 1),
		next_seq     INTEGER NOT NULL, -- of the next event; numbers are not used again
		low_seq      INTEGER NOT NULL, -- no event before it lacks a row in delivery
		indexed_seq  INTEGER NOT NULL, -- events up to it are in task_index
		fresh        INTEGER NOT NULL, -- events by state; fresh ones lack a row in delivery
		ready        INTEGER NOT NULL,
		retry        INTEGER NOT NULL,
		blocked      INTEGER NOT NULL,
		delivered    INTEGER NOT NULL,
		superseded   INTEGER NOT NULL,
		dead         INTEGER NOT NULL,
		stale        INTEGER NOT NULL, -- rows in task_index whose events are gone
		quarantined  INTEGER NOT NULL,
		next_suspect INTEGER NOT NULL
	) STRICT`,
	`INSERT INTO meta VALUES (1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1)`,
}, {
	// The traces of events that have one. They are not columns of events:
	// adding a column to a strict table makes SQLite read the whole table,
	// which takes long in a large file.
	`CREATE TABLE traces (
		seq          INTEGER PRIMARY KEY,
		trace_parent TEXT NOT NULL,
		trace_state  TEXT NOT NULL
	) STRICT`,

	// At most one row, which never outgrows its first page: changing it needs
	// no room in the file.
	`CREATE TABLE hold (
		id     INTEGER PRIMARY KEY CHECK (id = 1),
		since  INTEGER NOT NULL,
		until  INTEGER NOT NULL,
		ended  INTEGER NOT NULL,
		reason TEXT    NOT NULL
	) STRICT`,
}, {
	// How often the body of a quarantined callback arrived, and its place among
	// the others, ascending by last arrival. A repeat changes nothing but this
	// row. The place is the key because rows are read and removed in that
	// order. A row that is older than this table has no body_key: repeats are
	// not added to it.
	`CREATE TABLE arrivals (
		place     INTEGER PRIMARY KEY,
		id        INTEGER NOT NULL UNIQUE, -- in quarantine
		body_key  BLOB    UNIQUE,          -- the first half of the body's SHA-256
		count     INTEGER NOT NULL,
		last_at   INTEGER NOT NULL,
		source_ip TEXT    NOT NULL         -- the last time
	) STRICT`,
	`INSERT INTO arrivals SELECT id AS place, id, NULL, 1, received_at, source_ip FROM quarantine`,
}, {
	// The destinations other than the default, whose deliveries are in the tables of
	// version 1 and whose counters are in meta. Each has a slot, and tables of its own
	// with the number of the slot in their names, see slotSchema.
	`CREATE TABLE destinations (
		slot       INTEGER PRIMARY KEY,
		name       TEXT    NOT NULL UNIQUE,
		low_seq    INTEGER NOT NULL, -- no event before it that goes there lacks a row in its delivery
		fresh      INTEGER NOT NULL, -- deliveries by state
		ready      INTEGER NOT NULL,
		retry      INTEGER NOT NULL,
		blocked    INTEGER NOT NULL,
		delivered  INTEGER NOT NULL,
		superseded INTEGER NOT NULL,
		dead       INTEGER NOT NULL
	) STRICT`,

	// Where events go whose destinations are not just the default, as sets of slots:
	// bit n is slot n. An event without a row goes to the default alone, so that
	// storing it is still a single insert.
	`CREATE TABLE routes (
		seq        INTEGER PRIMARY KEY,
		slots      INTEGER NOT NULL, -- where it goes; 0 if it is skipped
		open       INTEGER NOT NULL, -- of these, where it is pending
		delivered  INTEGER NOT NULL,
		dead       INTEGER NOT NULL,
		settled_at INTEGER NOT NULL  -- the last end of a delivery; when it was stored if it is skipped
	) STRICT`,
	`CREATE INDEX routes_dead ON routes (seq) WHERE dead != 0`,

	// The events by their own state, and the rows of routes.
	`ALTER TABLE meta ADD COLUMN events_pending    INTEGER NOT NULL DEFAULT 0`,
	`ALTER TABLE meta ADD COLUMN events_delivered  INTEGER NOT NULL DEFAULT 0`,
	`ALTER TABLE meta ADD COLUMN events_superseded INTEGER NOT NULL DEFAULT 0`,
	`ALTER TABLE meta ADD COLUMN events_dead       INTEGER NOT NULL DEFAULT 0`,
	`ALTER TABLE meta ADD COLUMN events_skipped    INTEGER NOT NULL DEFAULT 0`,
	`ALTER TABLE meta ADD COLUMN routed            INTEGER NOT NULL DEFAULT 0`,
	`UPDATE meta SET events_pending = fresh + ready + retry + blocked, events_delivered = delivered,
		events_superseded = superseded, events_dead = dead`,
}, {
	// What is known of the events that are compared with others of their task. It is not
	// in columns of events for the same reason as traces.
	`CREATE TABLE outcomes (
		seq      INTEGER PRIMARY KEY,
		origin   INTEGER NOT NULL, -- 0 a callback, 1 Fotor's API
		outcome  BLOB    NOT NULL, -- empty if the event is not compared
		revision INTEGER NOT NULL
	) STRICT`,
}, trackedSchema, savedSchema, partsSchema}

// versionOfDestinations is the first version of the schema that has destinations.
const versionOfDestinations = 4

// counters are those of the deliveries to one destination.
type counters struct {
	lowSeq int64
	fresh  int64
	rows   [states]int64 // by the state in delivery
}

// count adds n to the number of deliveries in a state.
func (c *counters) count(s state, fresh bool, n int64) {
	if fresh {
		c.fresh += n
	} else {
		c.rows[s] += n
	}
}

// pending returns the number of pending deliveries.
func (c *counters) pending() int64 {
	return c.fresh + c.rows[ready] + c.rows[retry] + c.rows[blocked]
}

// byState returns the deliveries as inbox.DestinationStats has them.
func (c *counters) byState() (n [len(inbox.States)]int64) {
	n[inbox.Pending] = c.pending()
	n[inbox.Delivered] = c.rows[delivered]
	n[inbox.Superseded] = c.rows[superseded]
	n[inbox.Dead] = c.rows[dead]
	return n
}

// empty reports whether there are no deliveries.
func (c *counters) empty() bool { return c.byState() == [len(inbox.States)]int64{} }

// meta is the row of the table meta.
type meta struct {
	nextSeq, indexedSeq      int64
	counters                 // of the default destination
	stale                    int64
	quarantined, nextSuspect int64
	events                   [len(inbox.States)]int64 // by their own state
	routed                   int64
}

const (
	columnsOfVersion1 = `next_seq, low_seq, indexed_seq, fresh, ready, retry, blocked,
		delivered, superseded, dead, stale, quarantined, next_suspect`

	readMeta = `SELECT ` + columnsOfVersion1 + `, events_pending, events_delivered, events_superseded, events_dead,
		events_skipped, routed FROM meta WHERE id = 1`

	readMetaBefore = `SELECT ` + columnsOfVersion1 + ` FROM meta WHERE id = 1`

	writeMeta = `UPDATE meta SET next_seq = ?, low_seq = ?, indexed_seq = ?, fresh = ?, ready = ?, retry = ?, blocked = ?,
		delivered = ?, superseded = ?, dead = ?, stale = ?, quarantined = ?, next_suspect = ?, events_pending = ?,
		events_delivered = ?, events_superseded = ?, events_dead = ?, events_skipped = ?, routed = ? WHERE id = 1`
)

// read reads the row from a file of this version.
func (m *meta) read(c *conn) error { return m.readVersion(c, len(schema)) }

// readVersion reads the row from a file of any version.
func (m *meta) readVersion(c *conn, version int) error {
	query := readMeta
	if version < versionOfDestinations {
		query = readMetaBefore
	}
	found := false
	err := c.query(query, func(row []driver.Value) error {
		found = true
		for i, p := range m.fields()[:len(row)] {
			*p = integer(row[i])
		}
		return nil
	})
	if err == nil && !found {
		err = errors.New("the table meta is empty; it must have one row")
	}
	if version < versionOfDestinations {
		m.events = m.byState()
	}
	return err
}

func (m *meta) write(c *conn) error {
	fields := m.fields()
	values := make([]driver.Value, len(fields))
	for i, p := range fields {
		values[i] = *p
	}
	return c.exec(writeMeta, values...)
}

// fields returns the row's columns in order.
func (m *meta) fields() []*int64 {
	fields := []*int64{&m.nextSeq, &m.lowSeq, &m.indexedSeq, &m.fresh}
	for i := range m.rows {
		fields = append(fields, &m.rows[i])
	}
	fields = append(fields, &m.stale, &m.quarantined, &m.nextSuspect)
	for i := range m.events {
		fields = append(fields, &m.events[i])
	}
	return append(fields, &m.routed)
}

// identify returns the version of the file's schema, 0 if the file is new. It
// changes nothing, so that a file of another application stays as it is.
func identify(c *conn) (version int, err error) {
	app, err := c.number(`PRAGMA application_id`)
	if err != nil {
		return 0, err
	}
	tables, err := c.number(`SELECT count(*) FROM sqlite_schema`)
	if err != nil {
		return 0, err
	}
	if app == 0 && tables == 0 {
		return 0, nil
	}
	if app != applicationID {
		return 0, errOtherApplication(app)
	}
	v, err := c.number(`PRAGMA user_version`)
	return int(v), err
}

// migrate migrates the file to the newest version. If that fails, it stays as it is.
func migrate(c *conn, version int, schema []migration) error {
	if version > len(schema) {
		return fmt.Errorf("its schema has version %d, made by a newer release of this module; this one knows versions up to %d", version, len(schema))
	}
	if version == len(schema) {
		return nil
	}
	statements := slices.Concat([]string{`BEGIN IMMEDIATE`}, slices.Concat(schema[version:]...),
		[]string{setApplicationID, fmt.Sprintf(`PRAGMA user_version = %d`, len(schema)), `COMMIT`})
	for _, s := range statements {
		if err := c.exec(s); err != nil {
			rollback(c)
			return fmt.Errorf("migrating its schema from version %d to %d: %w", version, len(schema), err)
		}
	}
	return nil
}

// rollback ends the transaction, if any. After some errors SQLite has ended it
// already; then ROLLBACK fails, which is ignored. A transaction left open would
// make the next BEGIN fail.
func rollback(c *conn) {
	_ = c.exec(`ROLLBACK`)
}

// total returns the number of events in all states.
func (m *meta) total() (n int64) {
	for _, events := range m.events {
		n += events
	}
	return n
}
