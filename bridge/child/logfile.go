package child

import "os"

// maxLog is the size at which a new log file is begun, in bytes.
const maxLog = 8 << 20

// logFile is a file for what a program prints. The file before it is kept, under a name that ends in ".old". Write never fails, because a full
// disk must not stop the program. One goroutine at a time uses a logFile.
type logFile struct {
	path string
	file *os.File
	size int64
}

func newLogFile(path string) *logFile { return &logFile{path: path} }

// Write implements io.Writer.
func (l *logFile) Write(p []byte) (int, error) {
	if l.file != nil && l.size+int64(len(p)) > maxLog {
		l.Close()
		_ = os.Rename(l.path, l.path+".old")
	}
	if l.file == nil {
		file, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			return len(p), nil
		}
		l.file, l.size = file, 0
		if info, err := file.Stat(); err == nil {
			l.size = info.Size()
		}
	}
	n, _ := l.file.Write(p)
	l.size += int64(n)
	return len(p), nil
}

// Close closes the file; the next Write opens it again.
func (l *logFile) Close() {
	if l.file != nil {
		_ = l.file.Close()
		l.file = nil
	}
}
