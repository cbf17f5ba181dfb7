package sqlite

import (
	"io/fs"
	"os"
	"runtime"

	"go.uber.org/zap"
)

// keepPrivate removes everybody's permissions but the owner's from the existing
// files of the inbox: a restored backup is easily readable for all, and it
// holds personal data. New files get the permissions of the database from
// SQLite.
func keepPrivate(path string, log *zap.Logger) {
	const others fs.FileMode = 0o077
	if runtime.GOOS == "windows" { // where the mode says nothing about readers
		return
	}
	for _, p := range []string{path, path + walSuffix, path + shmSuffix, path + lockSuffix, path + reserveSuffix} {
		info, err := os.Stat(p)
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&others == 0 {
			continue
		}
		fields := []zap.Field{zap.String("path", p), zap.Stringer("mode", info.Mode().Perm())}
		if err := os.Chmod(p, info.Mode().Perm()&^others); err != nil {
			log.Warn("others may read the inbox, and that cannot be changed: expected mode 0600", append(fields, zap.Error(err))...)
			continue
		}
		log.Warn("others could read the inbox: only its owner can from now on", fields...)
	}
}
