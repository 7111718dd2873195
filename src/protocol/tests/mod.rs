//! Loom tests of the shipped protocol.
mod smoke {
    use crate::{Wait, mpmc, spsc};

    #[test]
    fn spsc_hands_over() {
        loom::model(|| {
            let (mut p, mut c) = spsc::Options::new(32).heap().unwrap();
            let t = loom::thread::spawn(move || {
                p.push(1, &[1, 2, 3], Wait::block()).unwrap();
                p.push(2, &[4], Wait::block()).unwrap();
            });
            let mut v = Vec::new();
            assert_eq!(c.pop(&mut v, Wait::block()).unwrap(), 1);
            assert_eq!(v, [1, 2, 3]);
            assert_eq!(c.pop(&mut v, Wait::block()).unwrap(), 2);
            t.join().unwrap();
        });
    }

    #[test]
    fn mpmc_hands_over() {
        let mut b = loom::model::Builder::new();
        b.preemption_bound = Some(2);
        b.check(|| {
            let (p, c) = mpmc::Options::new(2, 8).participants(3).heap().unwrap();
            let q = p.try_clone().unwrap();
            let t = loom::thread::spawn(move || {
                p.push(1, &[1, 2, 3], Wait::block()).unwrap();
            });
            let u = loom::thread::spawn(move || {
                q.push(2, &[1, 2, 3], Wait::block()).unwrap();
            });
            let mut v = Vec::new();
            let a = c.pop(&mut v, Wait::block()).unwrap();
            let b = c.pop(&mut v, Wait::block()).unwrap();
            assert_eq!(a + b, 3);
            t.join().unwrap();
            u.join().unwrap();
        });
    }
}
