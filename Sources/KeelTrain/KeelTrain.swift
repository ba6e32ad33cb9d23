// KeelTrain
