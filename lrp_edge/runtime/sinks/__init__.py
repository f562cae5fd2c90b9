"""Where results go: files, a window, a broker, a web address."""
