"""Tests of the service's pages, and of other origins' pages, in a real Chromium."""
