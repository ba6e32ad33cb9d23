// Keel's side of the accuracy table: batch normalization of every case in a file, on the device that KEEL_DEVICE names.
//
//   BatchNormAccuracy <arrays.safetensors> <results.safetensors> [<family>=<variant> ...]

import Foundation
import Keel

func measure(_ arguments: [String]) throws {
  guard arguments.count >= 2 else {
    throw Failure("usage: BatchNormAccuracy <arrays.safetensors> <results.safetensors> [<family>=<variant> ...]")
  }
  let variants = try arguments.dropFirst(2).map { argument in
    let words = argument.split(separator: "=").map { String($0) }
    guard words.count == 2 else { throw Failure("[accuracy] expected <family>=<variant>, got \(argument)") }
    return (words[0], words[1])
  }
  let file = try Safetensors(reading: arguments[0])
  let context = try ComputeContext(Device.select())

  var results = Safetensors()
  results.metadata["device"] = "\(context.device.name), \(context.device.platform.name)"
  results.metadata["runningVariance"] = "unbiased"
  for key in file.metadata.keys.sorted() where key.hasSuffix(".axis") {
    let name = String(key.dropLast(".axis".count))
    let run = try Case(name, in: file).run(on: context, variants: Dictionary(variants) { $1 })
    for (key, tensor) in run.results { results.tensors["\(name).\(key)"] = tensor }
    results.metadata["\(name).variants"] = run.variants.joined(separator: ", ")
  }
  try results.write(to: arguments[1])
}

do {
  try measure(Array(CommandLine.arguments.dropFirst()))
} catch {
  FileHandle.standardError.write(Data("\(error)\n".utf8))
  exit(1)
}
