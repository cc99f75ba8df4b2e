// Starts the page.
import { mount } from "svelte";
import Root from "./Root.svelte";
import "./styles/tokens.css";
import "./styles/base.css";

mount(Root, { target: document.getElementById("app") as HTMLElement });
