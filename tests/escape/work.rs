//! Under all these refusals ordinary work must go on: compilers, interpreters, debuggers, version control.

use crate::case::{self, Starter};
use serde_json::json;

/// The filter and the masks must leave work possible.
#[test]
fn ordinary_work_goes_on() {
    case::one(Starter::Root, json!({}), |case| {
        let python = "import multiprocessing, threading, subprocess, socket, tempfile, asyncio\n\
            if __name__ == '__main__':\n\
            \x20   with multiprocessing.get_context('fork').Pool(2) as pool: print(sum(pool.map(abs, [-1, 2])))\n\
            \x20   done = []; t = threading.Thread(target=lambda: done.append(1)); t.start(); t.join()\n\
            \x20   s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname()); print(len(done))\n\
            \x20   asyncio.run(asyncio.sleep(0)); print(subprocess.check_output(['echo', 'sub']).decode().strip())\n";
        let body = json!({"command": "python3", "args": ["-"], "stdin": python});
        let answer = case.run_in(&case.id, &body).expect(200).json();
        assert_eq!(answer["stdout"], "3\n1\nsub\n", "{answer:#}");
        let scripts = [
            ("c", "cd /tmp && echo 'int main(){return 0;}' > m.c && cc -g m.c -o m && ./m && echo good"),
            (
                "git",
                "cd /workspace && rm -rf r x t.tar && git init -q r && cd r && echo a > a && git add a && git -c user.name=a -c user.email=a@b commit -qm good && git log --format=%s",
            ),
            (
                "tar",
                "cd /workspace && rm -rf x t.tar && tar cf t.tar r && mkdir x && tar xf t.tar -C x && test -f x/r/a && echo good",
            ),
            (
                "make",
                "cd /tmp && printf 'all: a b c\\n%%:\\n\\t@echo $@ > /dev/null\\n' > M && make -s -j4 -f M && echo good",
            ),
            (
                "node",
                "command -v node >/dev/null || { echo good; exit; }; node -e \"new (require('worker_threads').Worker)('0',{eval:true}).on('exit',()=>console.log('good'))\"",
            ),
            (
                "gdb",
                "command -v gdb >/dev/null || { echo good; exit; }; gdb -q -batch -ex 'break main' -ex run -ex bt -ex kill /tmp/m 2>&1 | grep -q 'main ()' && echo good",
            ),
        ];
        for (what, script) in scripts {
            for &user in case.users() {
                let answer = case.run(user, "/bin/sh", &["-c", script]);
                // The debugged program is the one that the first script made.
                assert_eq!(answer["stdout"], "good\n", "{what} as {user}: {answer:#}");
            }
        }
    });
}
