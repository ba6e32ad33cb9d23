import ArgumentParser
import Foundation
import Keel
import Testing

@testable import KeelCLI

@Suite struct OptionTests {
  @Test func defaults() throws {
    let command = try TrainCommand.parse([])
    #expect(command.recipe == .mnistBN)
    #expect(try command.dataOptions.choice() == .digits)
    #expect(command.seed == 0)
  }

  @Test(arguments: [
    ["nonsense"], ["--epochs", "0"], ["--epochs", "-1"], ["--epochs", "2.5"], ["--epochs", "99999999999999999999"],
    ["--batch-size", "0"], ["--batch-size", "-32"], ["--learning-rate", "nan"], ["--learning-rate", "-0.1"],
    ["--learning-rate", "0"], ["--learning-rate", "inf"], ["--seed", "-1"], ["--seed", "x"], ["--data", "nonsense"],
    ["--data-dir", "/tmp"], ["--epochs"], ["--nonsense"], ["mnist-bn", "hands-on"],
  ])
  func badValuesAreUsageErrors(arguments: [String]) {
    let error = #expect(throws: (any Error).self) { try KeelCommand.parseAsRoot(["train"] + arguments) }
    guard let error else { return }
    let report = ErrorReport(error)
    #expect(report.code == 64)
    #expect(report.isError)
    #expect(report.text.hasPrefix("error: "), "\(report.text)")
    #expect(!report.text.contains("Usage: "))
  }

  @Test func badValuesOfOtherCommands() {
    for arguments in [
      ["evaluate"], ["evaluate", "m", "--batch-size", "0"], ["predict"], ["predict", "m", "a.pgm", "--index", "1"],
      ["predict", "m", "--index", "x"], ["bench", "step", "--repeat", "0"], ["bench", "step", "--steps", "0"],
      ["bench", "step", "--batch-size", "1"], ["bench", "step", "--steps", "1000000", "--batch-size", "65536"],
      ["bench", "step", "--recipe", "nonsense"], ["bench", "gemm", "--shape", "2x3"],
      ["bench", "gemm", "--shape", "2x3x0"], ["bench", "gemm", "--shape", "2x3x4x5"],
      ["bench", "gemm", "--shape", "9000x1x1"], ["bench", "gemm", "--transpose", "N"],
      ["bench", "gemm", "--repeat", "0"], ["bench", "batchnorm", "--shape", "32"],
      ["bench", "batchnorm", "--shape", "32x0"], ["bench", "batchnorm", "--shape", "65536x65536"],
      ["bench", "batchnorm", "--layout", "middle"], ["bench", "elementwise", "--elements", "1000"],
      ["bench", "elementwise", "--only", "nothing like this"], ["bench", "compare", "--timeout", "0"], ["nonsense"],
    ] {
      let error = #expect(throws: (any Error).self, "\(arguments)") { try KeelCommand.parseAsRoot(arguments) }
      if let error { #expect(ErrorReport(error).code == 64, "\(arguments)") }
    }
  }

  @Test func lists() throws {
    let bench = try BenchStepCommand.parse(["--recipe", "hands-on", "--recipe", "mnist-bn", "--batch-size", "64"])
    #expect(bench.work.recipes == [.handsOn, .mnistBN])
    #expect(bench.work.batchSizes == [64])
    let gemm = try BenchGemmCommand.parse(["--shape", "2x3x4", "--shape", "5×6×7", "--transpose", "tn"])
    #expect(gemm.shapes == [GemmShape(m: 2, n: 3, k: 4), GemmShape(m: 5, n: 6, k: 7)])
    #expect(gemm.transpositions == [.tn])
    #expect(try PredictCommand.parse(["m", "--index", "3", "--index", "5"]).indices == [3, 5])
  }

  @Test func helpAndVersionAreNoErrors() {
    for arguments in [["--help"], ["train", "--help"], ["--version"], ["help", "predict"]] {
      let error = #expect(throws: (any Error).self) {
        var command = try KeelCommand.parseAsRoot(arguments)
        try command.run()
      }
      guard let error else { continue }
      #expect(ErrorReport(error).code == 0)
      #expect(!ErrorReport(error).isError)
    }
  }

  @Test func errorsOfTheLibrary() {
    let report = ErrorReport(FormatError("idx", "a file", "truncated"))
    #expect(report.text == "error: [idx] a file: truncated")
    #expect(report.code == 1)
    let silent = ErrorReport(ExitCode(130))
    #expect(silent.text.isEmpty)
    #expect(silent.code == 130)
  }

  @Test func dataByName() throws {
    let tool = try Tool()
    defer { tool.remove() }
    #expect(try DataChoice("digits") == .digits)
    #expect(try DataChoice("mnist") == .mnist)
    let folder = try DataChoice(tool.folder.path + "/./")
    #expect(folder.name == tool.folder.standardizedFileURL.path)
    #expect(folder.title == tool.folder.lastPathComponent)
    // The name finds the data again.
    #expect(try DataChoice(folder.name) == folder)
    #expect(throws: ValidationError.self) { try DataChoice(tool.path("nothing")) }
    #expect(throws: CommandError.self) { try DataOptions.parse([]).choice(fallback: tool.path("nothing")) }
  }

  @Test func outputFile() throws {
    let tool = try Tool()
    defer { tool.remove() }
    try OutputFile.check("keel.safetensors")
    try OutputFile.check(tool.path("new"))
    for path in ["", tool.folder.path, tool.path("missing/new"), tool.path("missing") + "/"] {
      #expect(throws: CommandError.self, "\(path)") { try OutputFile.check(path) }
    }
  }
}
