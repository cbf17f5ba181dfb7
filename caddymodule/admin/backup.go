package admin

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
)

// backupWrite is how long a write of a backup may wait for the client. The inbox's log
// grows meanwhile.
const backupWrite = 10 * time.Second

// backup answers with a copy of the whole inbox.
func (c *call) backup() error {
	if err := c.params().failure(); err != nil {
		return err
	}
	module := c.gateway.Summary(c.r.Context(), control.RecentDefault).Config.Inbox
	backuper, ok := c.gateway.Inbox().(inbox.Backuper)
	if !ok {
		return failure(http.StatusNotImplemented, fmt.Errorf("the inbox is kept by %q, which makes no copy of itself: "+
			"use the means of what it stands on, for NATS 'nats stream backup' of its streams, see docs/production.md#backup-and-restore", module))
	}
	ctx, cancel := c.context()
	defer cancel()
	var info inbox.BackupInfo
	begun := false
	err := backuper.Backup(ctx, func(i inbox.BackupInfo) (io.Writer, error) {
		info, begun = i, true
		h := c.w.Header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Length", strconv.FormatInt(i.Bytes, 10))
		h.Set(control.BackupInboxHeader, module)
		h.Set(control.BackupEventsHeader, strconv.FormatInt(i.Events, 10))
		c.w.WriteHeader(http.StatusOK)
		return &patientWriter{c.w, http.NewResponseController(c.w)}, nil
	})
	c.audit("backup of the inbox", zap.Int64("bytes", info.Bytes), zap.Int64("events", info.Events), zap.Error(err))
	switch {
	case err == nil:
		return nil
	case begun:
		panic(http.ErrAbortHandler) // so that the client sees that it is incomplete
	case errors.Is(err, inbox.ErrBackupUnderWay):
		return failure(http.StatusConflict, err)
	default:
		return inboxFailure(err)
	}
}

// patientWriter gives a slow client time for each write, but not for ever.
type patientWriter struct {
	w   io.Writer
	out *http.ResponseController
}

func (p *patientWriter) Write(b []byte) (int, error) {
	if err := p.out.SetWriteDeadline(time.Now().Add(backupWrite)); err != nil {
		return 0, err
	}
	return p.w.Write(b)
}
