import Testing

@testable import KeelCLI

@Suite struct ProgressBarTests {
  @Test func showsShareAndTimeLeft() {
    #expect(
      ProgressBar.render("epoch 1/4", done: 25, total: 100, width: 50, elapsed: 10)
        == "epoch 1/4 ━━━━━──────────────────  25 %  0:30 left")
    #expect(ProgressBar.render("x", done: 100, total: 100, width: 20, elapsed: 10) == "x ━━━━━━━━━━━━ 100 %")
    #expect(ProgressBar.render("x", done: 0, total: 100, width: 20, elapsed: 0) == "x ────────────   0 %")
  }

  @Test func barIsAtMost40Wide() {
    let line = ProgressBar.render("x", done: 100, total: 100, width: 200, elapsed: 1)
    #expect(line.filter { $0 == "━" }.count == 40)
  }

  @Test func neverWiderThanTheTerminal() {
    for width in 0...100 {
      for done in [-5, 0, 1, 50, 99, 100, 1000] {
        let line = ProgressBar.render("epoch 3/10", done: done, total: 100, width: width, elapsed: 4000)
        #expect(line.count <= width, "\(line)")
      }
    }
  }

  @Test func impossibleNumbersAreNoTrap() {
    #expect(ProgressBar.render("x", done: 5, total: 0, width: 20, elapsed: 1) == "x ────────────   0 %")
    #expect(ProgressBar.render("x", done: -3, total: 10, width: 20, elapsed: .nan) == "x ────────────   0 %")
    #expect(ProgressBar.render("x", done: 30, total: 10, width: 20, elapsed: .infinity) == "x ━━━━━━━━━━━━ 100 %")
    #expect(ProgressBar.render("x", done: 1, total: 2, width: 30, elapsed: .infinity).hasSuffix("50 %  – left"))
  }

  @Test func durations() {
    #expect(ProgressBar.duration(0.2) == "0:01")
    #expect(ProgressBar.duration(59.5) == "1:00")
    #expect(ProgressBar.duration(750) == "12:30")
    #expect(ProgressBar.duration(11100) == "3:05:00")
    #expect(ProgressBar.duration(-1) == "–")
  }
}
