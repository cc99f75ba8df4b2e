import { chromium } from "playwright-core";
import { spawn } from "node:child_process";
const m=spawn(process.execPath,["dev/mock.mjs","--port","8300"]);await new Promise(r=>m.stdout.once("data",r));
const b=await chromium.launch({executablePath:"/usr/bin/chromium",args:["--no-sandbox","--disable-gpu"]});
const p=await b.newPage();p.on("pageerror",e=>console.log("ERR",e.message));p.on("console",e=>e.type()=="error"&&console.log("CON",e.text()));
const show=async(w)=>{await p.setViewportSize({width:w,height:1440});await p.waitForTimeout(500);console.log(w,JSON.stringify(await p.evaluate(()=>({w:document.querySelector(".frame").clientWidth,n:[...document.querySelectorAll(".node")].map(e=>e.style.transform+" "+e.style.width+" "+e.innerText.replace("\n","|")),d:[...document.querySelectorAll(".graph path")].filter(e=>e.parentNode.parentNode.className.includes("graph")).map(e=>e.getAttribute("d")).slice(0,1)}))));};
await p.setViewportSize({width:2560,height:1440});await p.goto("http://127.0.0.1:8300/");await p.waitForSelector(".node");
for(const w of [2560,2560,1440,1000,2560,1920,390,2560])await show(w);
await b.close();m.kill();
