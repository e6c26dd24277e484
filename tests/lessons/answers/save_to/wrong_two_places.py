def save_to(folder, worker):
    return {"project": folder, "name": f"worker-{worker % 2}"}
