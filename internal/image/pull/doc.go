// Package pull has tests of who pulls our images in a mesh. It is a module of its own for what it takes to build them.
package pull
