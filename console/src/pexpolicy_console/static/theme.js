"use strict";

// Before anything is painted: a dark page at night does not begin with a bright one.
if (localStorage.getItem("theme")) document.documentElement.dataset.theme = localStorage.getItem("theme");
