// Package kustomizecheck has tests of envoy/kustomize. It is a module of its own for Kustomize's library.
package kustomizecheck
